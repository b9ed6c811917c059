# shellcheck shell=sh disable=SC2034
# Functions that read the status of the unit $U. systemd reports nothing about a template (`a@.service`).
#
# `id` is the name of the unit if $U is an alias. `starts_at_boot` tests whether a unit is enabled, also if its `[Install]` enables only
# other units (`Also=`). `is_whole` tests whether each target of `[Install]` has its link.
clear_status() { id=$U load='' active='' file_state='' fragment='' drops='' reload=''; }
take_property() {
  case $1 in
  Id) id=$2 ;; LoadState) load=$2 ;; ActiveState) active=$2 ;; UnitFileState) file_state=$2 ;;
  FragmentPath) fragment=$2 ;; DropInPaths) drops=$2 ;; NeedDaemonReload) reload=$2 ;;
  esac
}
show_properties() {
  systemctl show --no-pager -p Id -p LoadState -p ActiveState -p UnitFileState -p FragmentPath -p DropInPaths -p NeedDaemonReload -- "$@"
}
complete_status() {
  [ "$file_state" != generated ] || file_state=$(systemctl is-enabled -- "$id" 2>/dev/null | tail -n 1)
}
read_template() {
  clear_status
  file_state=$(systemctl is-enabled -- "$U" 2>/dev/null | tail -n 1)
  load=loaded; [ -n "$file_state" ] || load=not-found
}
read_status() {
  case $U in *@.*) read_template; return ;; esac
  clear_status
  X=$(show_properties "$U")
  while IFS='=' read -r K V; do take_property "$K" "$V"; done <<END
$X
END
  complete_status
}
installs() {
  [ -n "$fragment" ] || return 0
  V=
  for A in "$fragment" $drops; do
    [ -r "$A" ] || continue
    while read -r X || [ -n "$X" ]; do
      case $X in "$1"=*|"$1 ="*) X=${X#*=}; if [ -n "$X" ]; then V="$V $X"; else V=; fi ;; esac
    done < "$A"
  done
  printf '%s\n' "$V"
}
starts_at_boot() {
  case $file_state in
  enabled) return 0 ;;
  indirect) ;;
  *) return 1 ;;
  esac
  A=$(installs Also); [ -n "$A" ] || return 1
  for A in $A; do
    case $(systemctl is-enabled -- "$A" 2>/dev/null) in enabled|static|indirect|alias|generated) ;; *) return 1 ;; esac
  done
}
has_link() {
  for root in /etc /run /usr/local/lib /usr/lib /lib; do [ ! -L "$root/systemd/system/$1/$id" ] || return 0; done
  return 1
}
is_whole() {
  for W in $(installs WantedBy); do case $W in *[%\\]*) ;; *) has_link "$W.wants" || return 1 ;; esac; done
  for W in $(installs RequiredBy); do case $W in *[%\\]*) ;; *) has_link "$W.requires" || return 1 ;; esac; done
}
