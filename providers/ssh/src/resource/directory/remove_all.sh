# shellcheck shell=sh disable=SC2154
# Removes `$P` with its content, after unmounting the file systems below it. If `$P` is a mount point, it is emptied and stays.
if [ -d "$P" ] && [ ! -L "$P" ]; then
  R=$(realpath -- "$P")
  while read -r _ _ _ _ M _; do printf '%b\n' "$M"; done < /proc/self/mountinfo | sort -r | while IFS= read -r M; do
    case $M in "$R"/*) umount -- "$M" ;; esac
  done
  N=
  while read -r _ _ _ _ M _; do if [ "$(printf '%b' "$M")" = "$R" ]; then N=yes; fi; done < /proc/self/mountinfo
  if [ "$N" ]; then find "$R" -xdev -mindepth 1 -delete; else rm -rf --one-file-system -- "$P"; fi
fi
