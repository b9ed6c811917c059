# shellcheck shell=sh disable=SC2154
# Shell that reports the kernel's host name, and the file with the one for the boot.
kind /etc/hostname
field kind "$K"
case $K in regular*) blob file < /etc/hostname ;; esac
blob kernel < /proc/sys/kernel/hostname
