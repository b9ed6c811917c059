# shellcheck shell=sh disable=SC2154
# Shell that reports the account `$U`: its passwd line, and its groups by name and number, the primary group first.
X=$(getent passwd -- "$U" || true)
if [ -n "$X" ]; then
  printf %s "$X" | blob passwd
  for G in $(id -G -- "$U"); do getent group -- "$G" || printf '%s:x:%s:\n' "$G" "$G"; done | cut -d : -f 1,3 | blob groups
fi
