# shellcheck shell=sh disable=SC2015,SC2154
# Functions that change the unit $U, for use after those of status.sh.
reset_start_limit() { systemctl reset-failed -- "$U" 2>/dev/null || true; }
show() { case $U in *@.*) ;; *) systemctl show --no-pager -p "$1" --value -- "$U" ;; esac; }
enable_unit() { systemctl enable -- "$id"; }
disable_unit() {
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
# The functions below read what the operation wants from variables, which are empty where the manifest says nothing:
# `want_enabled` and `want_masked` (true, false), `want_state` (running, stopped), `settle` (tenths of a second),
# `restart` and `moves_links` (1 if the unit is restarted, and if its links are updated to a changed `[Install]`),
# and `was` (whether the unit was enabled before).
enable_again() {
  if [ -n "$moves_links" ]; then disable_unit; enable_unit; else starts_at_boot && is_whole || enable_unit; fi
}
disable_enabled() { case $file_state in enabled|indirect) disable_unit ;; esac; }
set_enabled() {
  case $want_enabled in
  true)
    enable_again
    read_status
    starts_at_boot || fail invalid "the unit cannot be enabled ($file_state): it needs an [Install] section"
    ;;
  false) disable_enabled ;;
  *) if [ -n "$moves_links" ] && [ "$was" = enabled ]; then enable_again; fi ;;
  esac
}
restart_running() {
  [ "$(show ActiveState)" = active ] || return 0
  reset_start_limit
  systemctl restart -- "$U" || fail_unit 'the unit does not start again'
  check_stays_active "$settle"
}
set_state() {
  case $want_state in
  running)
    reset_start_limit
    systemctl "${restart:+re}start" -- "$U" || fail_unit 'the unit does not start'
    check_stays_active "$settle"
    ;;
  stopped) stop_unit; reset_start_limit ;;
  *) if [ -n "$restart" ]; then restart_running; fi ;;
  esac
}
set_states() {
  read_status
  set_enabled
  set_state
  if [ "$want_masked" = true ]; then systemctl mask -- "$id"; fi
  unmark
}
# Before the definition is written: reports the former state, and records the restart.
prepare() {
  was=$file_state; if starts_at_boot; then was=enabled; fi
  printf '%s' "$was $active" | blob before
  if [ -n "$restart" ]; then mark; fi
  if [ "$want_masked" = false ]; then unmask; fi
  redefined=
}
reload_if_redefined() { [ "$reload" != yes ] && [ -z "$redefined" ] || systemctl daemon-reload; }
# Stops, disables and removes a unit whose file is managed. A template is removed with all its instances.
stop_instances() {
  systemctl list-units --all --plain --no-legend --type="${U##*.}" | while read -r unit _; do
    case $unit in "${U%%@*}@"*) systemctl stop -- "$unit" ;; esac
  done
}
stop_and_disable() {
  [ "$load" != not-found ] || return 0
  case $U in *@.*) stop_instances ;; *) stop_unit ;; esac
  systemctl disable -- "$U" 2>/dev/null || true
}
forget_unit() { systemctl daemon-reload; systemctl reset-failed -- "$U" 2>/dev/null || true; unmark; }
# Restores the state that an existing unit had before moorfast: the variables above are what it was.
restore_states() {
  case $want_masked in true) systemctl mask -- "$id" ;; false) unmask ;; esac
  read_status
  if [ "$load" != not-found ]; then
    case $want_enabled in true) starts_at_boot || enable_unit ;; false) disable_enabled ;; esac
    case $want_state in running) systemctl start -- "$U" ;; stopped) systemctl stop -- "$U" ;; esac
  fi
  unmark
}
# As the health gate of a rollout: the unit stays active for $1 seconds without a restart.
unhealthy() { fail failed "$1: $(show ActiveState) ($(show SubState)), result $(show Result), exit status $(show ExecMainStatus)"; }
run_of_unit() { printf '%s %s' "$(show NRestarts)" "$(show InvocationID)"; }
check_health() {
  [ "$(show ActiveState)" = active ] || unhealthy 'the unit is not active'
  B=$(run_of_unit); C=0
  while [ "$C" -lt "$1" ]; do
    sleep 1; C=$((C + 1))
    [ "$(show ActiveState)" = active ] && [ "$(run_of_unit)" = "$B" ] || unhealthy 'the unit does not stay active'
  done
}
