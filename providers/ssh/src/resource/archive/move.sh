# shellcheck shell=sh disable=SC2154,SC2164
# Moves the content of `$S` to `$P`. Directories get their modes and owners last, because a mode may forbid writing.
( cd -- "$S"; find . -mindepth 1 -type d ) | while IFS= read -r A; do
  if foreign_link "$P/$A"; then fail conflict "$P/${A#./} is a symbolic link of another user: nothing is written through it"; fi
  keeps_directory "$A" || { rm -f -- "$P/$A"; mkdir -m 0700 -- "$P/$A"; }
done
( cd -- "$S"; find . ! -type d ) | while IFS= read -r A; do
  if [ -d "$P/$A" ] && [ ! -L "$P/$A" ]; then
    ( cd -- "$P"; find "$A" ! -type d ) | while IFS= read -r B; do if from_archive "$B"; then rm -f -- "$P/$B"; fi; done
    find "$P/$A" -depth -type d -exec rmdir -- {} +
  fi
  mv -fT -- "$S/$A" "$P/$A"
done
