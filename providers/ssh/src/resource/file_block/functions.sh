# shellcheck shell=sh disable=SC2154
# Functions that find, write and remove the block "$NAME" in the text "$S".
#
# `find_block` sets `FIRST` and `LAST` to the numbers of its marker lines, or to nothing. `insert_at` sets `AT` to the number of the line after
# which a new block goes, or to nothing for the end. `write_block` and `remove_block` write the new text to descriptor 6.
MARKER='moorfast [A-Za-z0-9._-]+'
RETURN=$(printf '\r')
damaged() {
  printf %s "$2" | blob help
  fail conflict "the block is damaged: $1"
}
marker_lines() { grep -naE -- "^(.* )?$1 moorfast $PATTERN$RETURN?\$" < "$S" | cut -d : -f 1; }
find_block() {
  FIRST=$(marker_lines BEGIN); LAST=$(marker_lines END)
  case "$FIRST $LAST" in *'
'*) damaged 'its marker lines are there twice' "$REMOVE_ONE" ;; esac
  if [ -n "$FIRST" ] && [ -z "$LAST" ]; then damaged 'it has no END line' "$RESTORE"; fi
  if [ -z "$FIRST" ] && [ -n "$LAST" ]; then damaged 'it has no BEGIN line' "$RESTORE"; fi
  if [ "${FIRST:-0}" -gt "${LAST:-0}" ]; then damaged 'its END line is above its BEGIN line' "$RESTORE"; fi
}
# No block is written into another one.
insert_at() {
  AT=
  case $PLACE in end) return 0 ;; esac
  MANAGED=$(sed -nE "/^(.* )?BEGIN $MARKER$RETURN?\$/,/^(.* )?END $MARKER$RETURN?\$/=" < "$S")
  X=$(grep -E -e "$LINE" /dev/null 2>&1) || [ $? = 1 ] || fail invalid "the regular expression is not valid: ${X#grep: }"
  FOUND=$(tr -d '\r' < "$S" | { grep -naE -e "$LINE" || [ $? = 1 ]; } | cut -d : -f 1)
  FOUND=$(printf '%s\n' "$FOUND" | { grep -vxF -e "$MANAGED" || true; })
  case $PLACE in
  after) AT=$(printf '%s\n' "$FOUND" | tail -n 1) ;;
  before) AT=$(printf '%s\n' "$FOUND" | head -n 1); AT=${AT:+$((AT - 1))} ;;
  esac
}
# `EOL` is the line ending of the file.
find_line_ending() { case $(head -n 1 < "$S") in *"$RETURN") EOL=crlf ;; *) EOL=lf ;; esac; }
print_block() { if [ "$EOL" = crlf ]; then printed_block | sed "s/\$/$RETURN/"; else printed_block; fi; }
has_open_end() { [ -n "$(tail -c 1 < "$S" | tr '\0' x)" ]; }
write_block() {
  find_block; find_line_ending
  if [ -n "$FIRST" ]; then
    { head -n "$((FIRST - 1))" < "$S"; print_block; tail -n "+$((LAST + 1))" < "$S"; } >&6
    return 0
  fi
  insert_at
  # If only blocks of moorfast are in the file, moorfast created it.
  if [ "$K" = absent ]; then
    field created yes
  elif [ -s "$S" ] && [ "$(sed -E "/^(.* )?BEGIN $MARKER$RETURN?\$/,/^(.* )?END $MARKER$RETURN?\$/d" < "$S" | wc -c)" = 0 ]; then
    field created yes
  fi
  if [ -n "$AT" ] && [ "$AT" -le "$(wc -l < "$S")" ]; then
    { head -n "$AT" < "$S"; print_block; tail -n "+$((AT + 1))" < "$S"; } >&6
  elif has_open_end; then
    field open_end "$EOL"
    { cat < "$S"; case $EOL in crlf) printf '\r\n' ;; lf) printf '\n' ;; esac; print_block; } >&6
  else
    { cat < "$S"; print_block; } >&6
  fi
}
# The line break before the block is removed too, if it was added for the block.
remove_block() {
  if [ -n "$OPEN_END" ] && [ "$LAST" -ge "$(wc -l < "$S")" ]; then
    head -n "$((FIRST - 1))" < "$S" | head -c -1 | { if [ "$OPEN_END" = crlf ]; then head -c -1; else cat; fi; } >&6
  else
    { head -n "$((FIRST - 1))" < "$S"; tail -n "+$((LAST + 1))" < "$S"; } >&6
  fi
}
