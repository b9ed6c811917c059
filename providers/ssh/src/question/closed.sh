# shellcheck shell=sh
# Reports those of the paths "$@" that even root cannot write.
[ "$(id -u)" = 0 ] || exit 0
closed() {
  for P do
    [ -w "$P" ] || [ ! -e "$P" ] || [ -L "$P" ] ||
      printf '%s\0%s\0' "$P" "$(lsattr -d -- "$P" 2>/dev/null | cut -d ' ' -f 1)"
  done
}
report closed "$@"
