# shellcheck shell=sh disable=SC2154
# Shell that reports the table, its file and its unit, and the rules of the manifest as nft would print them, or why nft refuses them. These are loaded into a
# network of their own, which ends with the command.
if [ -f "$F" ]; then blob file < "$F"; fi
if [ -f "$U" ]; then blob unit < "$U"; fi
if [ -L "$W" ]; then field enabled yes; fi
if [ -z "$(command -v nft)" ]; then
  field no.nft yes
else
  if X=$(live_table 2>/dev/null); then printf '%s\n' "$X" | blob live; fi
  if [ -z "$HAS_RULES" ]; then :
  elif ! X=$(print_table | nft -c -f - 2>&1); then printf %s "$X" | blob refused
  elif X=$(print_table | unshare -n -- sh -c 'nft -f - && nft -s list table "$@"' sh "$FAMILY" "$NAME" 2>/dev/null); then printf '%s\n' "$X" | blob expected
  fi
fi
