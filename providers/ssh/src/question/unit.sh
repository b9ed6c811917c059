# shellcheck shell=sh disable=SC2154
# Reports the status of the units "$@", for use after resource/unit/status.sh, each as a record of its name, its properties, and what is true of it.
print_status() {
  L=
  if starts_at_boot; then L="$L enabled"; is_whole || L="$L partial"; fi
  [ ! -e "/run/moorfast/$U.restart" ] || L="$L marked"
  [ ! -L "/etc/systemd/system/$U" ] || L="$L linked"
  case $fragment in /etc/*) [ -L "$fragment" ] || L="$L own_file" ;; esac
  for root in /run /usr/local/lib /usr/lib /lib; do
    [ ! -f "$root/systemd/system/$U" ] || { L="$L elsewhere"; break; }
  done
  printf '%s\0' "$U" "$id" "$load" "$active" "$file_state" "$reload" "$L"
}
statuses() {
  for U do
    shift
    case $U in *@.*) read_template; print_status ;; *) set -- "$@" "$U" ;; esac
  done
  [ $# -gt 0 ] || return 0
  # systemd prints the units in their order, with an empty line between two of them.
  show_properties "$@" | {
    U=$1; clear_status
    while IFS='=' read -r K V; do
      if [ -n "$K" ]; then take_property "$K" "$V"; continue; fi
      complete_status; print_status
      shift; U=$1; clear_status
    done
    [ -z "$load" ] || { complete_status; print_status; }
  }
}
report statuses "$@"
