# shellcheck shell=sh disable=SC2154
# Sets owner and mode of the directories that the archive created, the deepest first.
sort -r -k 3 -- "$S.made" | while read -r B O A; do
  ( open_existing "$P/${A%/}"; chown -- "$O" /proc/self/fd/6; chmod -- "00$B" /proc/self/fd/6 )
done
