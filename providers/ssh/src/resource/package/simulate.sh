# shellcheck shell=sh disable=SC2046,SC2086
# Functions that report what a change of packages would do, for use after those of read.sh and transaction.sh.
simulate() {
  if R=$(transaction "$@" 2>&1); then printf '%s\n' "$R" | blob transaction; else printf '%s\n' "$R" | blob failure; fi
}
simulate_purge() {
  set -- $(installed "$@")
  [ $# = 0 ] || simulate purge "$@"
}

# `report_with_unneeded BLOB NAME…` reports the removal of packages together with those that no package needs then.
report_with_unneeded() {
  B=$1; shift
  set -- $(installed "$@")
  [ $# != 0 ] || return 0
  if [ -x /usr/bin/apt-get ]; then set -- purge --auto-remove "$@"; else set -- remove "$@"; fi
  R=$(transaction "$@") || R=
  printf '%s\n' "$R" | blob "$B"
}
