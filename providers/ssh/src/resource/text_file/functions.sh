# shellcheck shell=sh disable=SC2154
# Functions that change a text file that others write too, in one step.
#
# `open_text PATH` waits until no other operation changes a text file of the same directory, and opens the file, without following a link, for use
# as "$S"; `K` is its kind. A file that does not exist is empty. The new text is written to descriptor 6. `save_text PATH` puts it in place of the
# file, which keeps its owner and its permissions. `write_text PATH TEXT` does all of it.
S=/proc/self/fd/8
open_text() {
  D=${1%/*}; D=${D:-/}
  [ -d "$D" ] || fail failed "the directory $D does not exist (create it with ssh_directory)"
  exec 7< "$D"
  flock -w 60 7 || fail timeout "another program holds a lock on $D"
  kind "$1"
  case $K in
  absent) exec 8< /dev/null ;;
  regular*) open_existing "$1"; exec 8<&6 ;;
  *) fail conflict "there is a $K at that path" ;;
  esac
  open_temporary "$D"
}
save_text() {
  if [ "$K" = absent ]; then
    chmod 0644 /proc/self/fd/6
  elif [ "$(sha256sum < /proc/self/fd/6)" = "$(sha256sum < "$S")" ]; then
    exec 6>&-; rm -f -- "$T"
    return 0
  else
    chown --reference="$S" -- /proc/self/fd/6 2>/dev/null || true
    chmod --reference="$S" -- /proc/self/fd/6
  fi
  sync -- /proc/self/fd/6
  exec 6>&-
  if ! E=$(mv -fT -- "$T" "$1" 2>&1); then
    # A file on which another one is mounted cannot be replaced.
    case $E in *'resource busy'*) cat < "$T" > "$1" ;; *) fail failed "$E" ;; esac
  fi
  sync -- "$D"
}
write_text() { open_text "$1"; printf %s "$2" >&6; save_text "$1"; }
