# shellcheck shell=sh disable=SC2154
# Shell functions. `set_value VALUE` sets the parameter; if that fails, `X` has the kernel's reason.
set_value() { X=$(printf '%s\n' "$1" | dd of="$L" bs=64k iflag=fullblock status=none 2>&1) || { X=${X##*: }; return 1; }; }
fail_refused() {
  [ "$(id -u)" = 0 ] || fail denied "$X"
  case $X in
  'Invalid argument'|*'out of range'*) printf %s "write a value that the kernel's documentation of the parameter allows" | blob help ;;
  *) printf %s 'root cannot change the parameter: it may be fixed at boot, or belong to the host of a container' | blob help ;;
  esac
  fail invalid "the kernel refuses $1 ($X)"
}
