# shellcheck shell=sh disable=SC2154
# Shell that requests the reboot, and ends before it starts. The file is on disk before.
[ "$(id -u)" = 0 ] || { printf %s 'set sudo = true on the node, or log in as root' | blob help; fail denied 'only root can reboot the machine'; }
read -r X < /proc/sys/kernel/random/boot_id
printf '%s\n' "$X" > "$REQUESTED"
sync -- "$REQUESTED" "${REQUESTED%/*}"
systemd-run --quiet --collect --on-active=1s systemctl reboot
field ends_boot "$X"
