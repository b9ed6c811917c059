# shellcheck shell=sh disable=SC2154
# Shell that passes each line of /etc/fstab as `L` through the function `rewrite`.
if [ -f /etc/fstab ]; then
  open_text /etc/fstab
  while IFS= read -r L || [ -n "$L" ]; do rewrite; done < "$S" >&6
  save_text /etc/fstab
fi
