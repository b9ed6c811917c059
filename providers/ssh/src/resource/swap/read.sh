# shellcheck shell=sh disable=SC2154
# Shell that reports the active swap areas, those of fstab, and whether systemd may start swap.
# 
# The kernel writes a space in a path as `\040`.
while read -r D _; do case $D in Filename) ;; *) printf '%b\n' "$D" ;; esac; done < /proc/swaps | blob devices
if [ -f /etc/fstab ]; then
  while read -r D _ K _; do case $D in '#'*|'') ;; *) [ "$K" != swap ] || printf '%s\n' "$D" ;; esac; done < /etc/fstab | blob fstab
fi
field target "$(systemctl is-enabled swap.target 2>/dev/null || true)"
