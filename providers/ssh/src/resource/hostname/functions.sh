# shellcheck shell=sh
# `set_kernel NAME` sets the kernel's host name.
set_kernel() {
  [ "$(cat /proc/sys/kernel/hostname)" = "$1" ] || printf '%s\n' "$1" > /proc/sys/kernel/hostname
}
