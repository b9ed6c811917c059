# shellcheck shell=sh disable=SC2154
# Shell that reports the machine-id and the boot-id, also to a user without any rights.
X=; { read -r X < /etc/machine-id; } 2>/dev/null || true; field machine_id "$X"
X=; { read -r X < /proc/sys/kernel/random/boot_id; } 2>/dev/null || true; field boot_id "$X"
