# shellcheck shell=sh disable=SC2154,SC2015,SC2164
# Prepares the move of `$S` to `$P` without changing `$P`. It lists for the marker: regular files in the format of sha256sum, others by name,
# and the directories that the archive creates. An object that did not come from this archive is never replaced by another kind.
# A copy of a directory that moorfast unpacked contains its marker.
rm -rf -- "$S"/.moorfast-archive-*
[ -z "$(find "$S" -name '*
*' -print -quit)" ] || fail invalid 'a name in the archive contains a line break'
[ -n "$(find "$S" -mindepth 1 -print -quit)" ] || {
  printf %s 'lower strip_components, or correct include: they exclude every file of the archive' | blob help
  fail invalid 'the archive has no file to unpack'
}
if [ -f "$M" ] && [ ! -L "$M" ]; then tail -n +2 -- "$M" > "$S.was"; else : > "$S.was"; fi
names < "$S.was" > "$S.old"
from_archive() { grep -qxF -- "$1" "$S.old"; }
keeps_directory() { [ -d "$P/$1" ] && { [ ! -L "$P/$1" ] || ! from_archive "$1"; }; }
in_the_way() { fail conflict "$P/${1#./} is in the way: the archive has a $2 at this path, and the existing object did not come from the archive"; }
( cd -- "$S"; find . -mindepth 1 -type d -exec stat -c '%a %u:%g %n/' -- {} + ) | while read -r B O A; do
  A=${A%/}
  if foreign_link "$P/$A"; then fail conflict "$P/${A#./} is a symbolic link of another user: nothing is written through it"; fi
  if keeps_directory "$A"; then
    from_archive "$A" || continue
  elif [ -e "$P/$A" ] || [ -L "$P/$A" ]; then
    from_archive "$A" || in_the_way "$A" directory
  fi
  printf '%s\n' "$B $O $A/"
done > "$S.made"
find "$S" -type d ! -perm -u=rwx -exec chmod u+rwx -- {} +
( cd -- "$S"; find . ! -type d ) | while IFS= read -r A; do
  [ -d "$P/$A" ] && [ ! -L "$P/$A" ] || continue
  from_archive "$A" || [ -n "$(find "$P/$A" ! -type d -print -quit)" ] || in_the_way "$A" file
  ( cd -- "$P"; find "$A" ! -type d ) | while IFS= read -r B; do from_archive "$B" || in_the_way "$B" 'file above it'; done
done
( cd -- "$S"
  find . -type f -exec sha256sum -b -- {} +
  find . ! -type f ! -type d | while IFS= read -r A; do printf 'other *%s\n' "$A"; done
  while read -r _ _ A; do printf 'made *%s\n' "${A%/}"; done < "$S.made"
) > "$S.list"
names < "$S.list" > "$S.new"
kept() { grep -qxF -- "$1" "$S.new"; }
{ grep -vxFf "$S.new" -- "$S.old" || true; } | while IFS= read -r A; do
  B=$A
  while case $B in ./*/*) ;; *) false ;; esac; do
    B=${B%/*}
    if [ -L "$S/$B" ] || [ -f "$S/$B" ]; then continue 2; fi
  done
  printf '%s\n' "$A"
done > "$S.gone"
