# shellcheck shell=sh
# Reports the kernel parameters "$@": the type and the permissions of the file of each, their values, and the lines of the files
# read at boot that may set one of them. A file hides the files with the same name in later folders. The files are read in the
# order of their names. `/etc/sysctl.conf` is read through its link in `/etc/sysctl.d`.
accesses() {
  for N do
    L=/proc/sys/$N A=
    [ -e "$L" ] || continue
    [ ! -d "$L" ] || A="$A directory"
    [ ! -r "$L" ] || A="$A readable"
    [ ! -w "$L" ] || A="$A writable"
    printf '%s\0%s\0' "$N" "$A"
  done
}
readable() { for N do [ ! -f "/proc/sys/$N" ] || [ ! -r "/proc/sys/$N" ] || printf '/proc/sys/%s\0' "$N"; done; }
present() { for N do [ ! -e "/proc/sys/$N" ] || printf '/proc/sys/%s\0' "$N"; done; }
boot_files() {
  for folder in /etc /run /usr/local/lib /usr/lib /lib; do
    for file in "$folder"/sysctl.d/*.conf; do
      [ ! -e "$file" ] || printf '%s\t%s\n' "${file##*/}" "$file"
    done
  done | sort -s -u -t "$(printf '\t')" -k 1,1 | cut -f 2- | tr '\n' '\0'
}
ends() { for N do printf '%s\n' "${N##*[/.]}"; done; }
field user "$(id -u)"
present "$@" | xargs -0 -r stat --printf '%n\0%a\0' -- | blob modes
readable "$@" | xargs -0 -r grep -HZ '' /dev/null | blob values
boot_files | { xargs -0 -r grep -HZsF -e "$(ends "$@")" -- /dev/null || true; } | blob boot
report accesses "$@"
