# shellcheck shell=sh disable=SC2034,SC2154
# Shell functions. `reasons` prints why the machine should reboot, one line each. `REQUESTED` is the file with the boot-id of a boot that a reboot was to end: it
# shows a later run whether that reboot happened.
REQUESTED=/var/lib/moorfast-reboot
reasons() {
  if [ -e /run/reboot-required ]; then
    X=$(sort -u /run/reboot-required.pkgs 2>/dev/null | tr '\n' ' ')
    printf 'packages require it%s\n' "${X:+: ${X% }}"
  fi
  X=$(uname -r)
  # The kernel of a container, or one that no package brought, is compared with nothing.
  if [ -e "/boot/vmlinuz-$X" ]; then
    R=$(for F in /boot/vmlinuz-*; do printf '%s\n' "${F#/boot/vmlinuz-}"; done | grep -v rescue | sort -V | tail -n 1)
    [ "$R" = "$X" ] || printf 'kernel %s is installed, and %s runs\n' "$R" "$X"
  fi
}
