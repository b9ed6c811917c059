# shellcheck shell=sh disable=SC2154
# Removes the files of the marker and the directories that are then empty.
kept() { false; }
if [ -f "$M" ] && [ ! -L "$M" ]; then
  create_temporary "${TMPDIR:-/tmp}"; tail -n +2 -- "$M" | names > "$T"; remove "$T"
fi
rm -f -- "$M"
[ ! -d "$P" ] || rmdir -- "$P" 2>/dev/null || true
