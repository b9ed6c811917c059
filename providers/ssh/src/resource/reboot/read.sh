# shellcheck shell=sh disable=SC2154
# Shell that reports why the machine should reboot, its boot, and the boot that an unfinished reboot was to end.
reasons | blob reasons
read -r X < /proc/sys/kernel/random/boot_id; field boot "$X"
if [ -f "$REQUESTED" ]; then read -r X < "$REQUESTED" || true; field requested "$X"; fi
