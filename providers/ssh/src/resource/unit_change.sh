# shellcheck shell=sh disable=SC2154
# Functions that change the unit $U, for use after those of unit_status.sh.
reset_start_limit() { systemctl reset-failed -- "$U" 2>/dev/null || true; }
show() { case $U in *@.*) ;; *) systemctl show --no-pager -p "$1" --value -- "$U" ;; esac; }
enable() { systemctl enable -- "$id"; }
disable() {
  target=; [ ! -L "$fragment" ] || target=$(readlink -- "$fragment")
  systemctl disable -- "$id"
  if [ -n "$target" ] && [ ! -L "$fragment" ]; then ln -s -- "$target" "$fragment"; systemctl daemon-reload; fi
}
stop_unit() { read_status; [ "$load" = not-found ] || systemctl stop -- "$U"; }
unmask() { systemctl unmask -- "$id"; systemctl unmask --runtime -- "$id"; }
mark() { mkdir -p /run/moorfast; : > "$M"; }
unmark() { rm -f -- "$M"; rmdir /run/moorfast 2>/dev/null || true; }
write_file() { create_temporary "$(dirname -- "$1")"; cat > "$T"; chmod 0644 "$T"; sync -- "$T"; mv -fT -- "$T" "$1"; }
fail_unit() {
  journalctl -u "$U" -n 20 --no-pager -o cat 2>/dev/null | blob detail
  fail failed "$1: $(show ActiveState) ($(show SubState)), result $(show Result), exit status $(show ExecMainStatus)"
}
check_stays_active() {
  B=$(show NRestarts); C=0
  while [ "$C" -le "$1" ]; do
    case $(show ActiveState)/$(show SubState) in
      active/*) [ "$(show NRestarts)" = "$B" ] || fail_unit 'the unit does not stay active' ;;
      */auto-restart|failed/*|inactive/*|deactivating/*) fail_unit 'the unit does not stay active' ;;
      *) C=$((C - 1)) ;;
    esac
    C=$((C + 1)); sleep 0.1
  done
}
