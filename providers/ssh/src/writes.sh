# shellcheck shell=sh disable=SC2164
# Functions that write several objects in one directory together.
#
# `stage DIRECTORY PARENTS` enters a private directory beside the objects. It is entered by its real path, so that the owner of the
# directory cannot lead the script elsewhere, and from then on all paths are relative: `..` is the directory of the objects.
# `put PATH FORMAT` writes a file. `report_written PATH…` reports the objects that were moved to their places.
stage() {
  if [ "$2" = parents ] && [ ! -d "$1" ]; then mkdir -p -- "$1"; fi
  cd -- "$1"
  D=$(pwd -P)
  remove_stale "$D" || true
  read -r X < /proc/sys/kernel/random/uuid
  S=.moorfast-$MACHINE-$$.${X%%-*}
  mkdir -m 0700 -- "$S"
  cd -- "$S"
  [ "$(pwd -P)" = "${D%/}/$S" ] || fail conflict 'the directory was replaced by a symbolic link'
  trap 'find . -mindepth 1 -delete; cd ..; rmdir -- "$S"' EXIT
  trap 'exit 143' TERM HUP INT
  umask 077; set -C
  : > .moorfast-staging
}
# shellcheck disable=SC2059
put() { printf "$2" > "$1"; }
report_written() {
  sync -- ..
  for A do if [ ! -e "$A" ] && [ ! -L "$A" ]; then printf '%s\0' "$A"; fi; done | blob written
}
