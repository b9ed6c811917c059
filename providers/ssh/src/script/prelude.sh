# shellcheck shell=sh disable=SC2013,SC2034,SC2086
# Functions for all sections of a script: see script.rs.
export LC_ALL=C PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
umask 022
exec 3<&0 4>&1 </dev/null >&2
read -r _ _ _ _ G _ < /proc/self/stat
{ read -r MACHINE < /etc/machine-id; } 2>/dev/null || MACHINE=
MACHINE=${MACHINE%????????????????????????}
read -r MOORFAST_RUN < /proc/sys/kernel/random/uuid
export MOORFAST_RUN
contain() {
  CGROUP=
  while IFS= read -r L; do case $L in 0::*) CGROUP=${L#0::} ;; esac; done < /proc/self/cgroup
  L=/sys/fs/cgroup; [ -e "$L/cgroup.procs" ] || L=$L/unified
  CGROUP=$L${CGROUP%/}/moorfast-$MOORFAST_RUN
  mkdir "$CGROUP" || { CGROUP=; return 0; }
  { [ -w "$CGROUP/cgroup.procs" ] && echo "$$" > "$CGROUP/cgroup.procs"; } || { rmdir "$CGROUP"; CGROUP=; }
} 2>/dev/null
leave_cgroup() {
  [ -n "$CGROUP" ] || return 0
  echo "$1" > "${CGROUP%/*}/cgroup.procs"
  rmdir "${CGROUP%/*}"/moorfast-*
} 2>/dev/null
find_started() {
  S=" "
  [ -z "$CGROUP" ] || for P in $(cat "$CGROUP/cgroup.procs" 2>/dev/null); do S="$S$P "; done
  for P in $(grep -lsF "MOORFAST_RUN=$MOORFAST_RUN" /proc/[0-9]*/environ); do P=${P#/proc/}; S="$S${P%/*} "; done
  B=
  while [ "$S" != "$B" ]; do
    B=$S
    for P in /proc/[0-9]*/stat; do
      read -r L < "$P" || continue
      P=${L%% *}; set -- ${L##*) }
      case $S in *" $P "*) continue ;; esac
      case $S in *" $2 "*) S="$S$P " ;; *) [ "$3" != "$G" ] || S="$S$P " ;; esac
    done
  done
}
end_all() {
  read -r I _ < /proc/self/stat
  [ -z "$CGROUP" ] || echo "$I" > "${CGROUP%/*}/cgroup.procs"
  find_started; A=$S
  case $A in *" $$ "*) kill -TERM "$$" ;; esac
  for P in $A; do [ "$P" = "$I" ] || kill -TERM "$P"; done
  sleep 2
  for _ in 1 2 3; do
    find_started
    for P in $A $S; do [ "$P" = "$I" ] || kill -KILL "$P"; done
  done
  [ -z "$CGROUP" ] || { echo 1 > "$CGROUP/cgroup.kill"; sleep 0.1; leave_cgroup "$I"; }
}
watch() { ( trap '' TERM HUP; read -r _ <&3; end_all ) >/dev/null 2>&1 4>&- 6>&- & W=$!; }
trap 'exit 143' TERM HUP INT
begin() { printf '\n%s begin %s\n' "$N" "$1" >&4; printf '\n%s begin %s\n' "$N" "$1" >&2; }
end_answer() { printf '\n%s done\n' "$N" >&4; printf '\n%s done\n' "$N" >&2; }
on_machine() {
  [ "$(cat /etc/machine-id 2>/dev/null)" = "$1" ] || { printf '\n%s elsewhere\n' "$N" >&4; end_answer; exit 0; }
}
finish() { [ "$1" = 0 ] || field uid "$(id -u)"; printf '%s end %s\n' "$N" "$1" >&4; }
field() { printf '%s %s %s\n' "$N" "$1" "$2" >&4; }
blob() { { printf '%s %s ' "$N" "$1"; base64 -w 0; echo; } >&4; }
report() {
  E=$({ "$@" | blob answer; } 2>&1)
  [ -z "$E" ] || { printf %s "$E" | blob errors; field uid "$(id -u)"; }
}
note() { printf %s "$1" | blob note; }
fail() { field error "$1"; printf %s "$2" | blob summary; exit 1; }
kind() {
  K=$(stat -c %F -- "$1" 2>&1) || case $K in
    *'No such file'*|*'Not a directory'*) K=absent ;;
    *) fail denied "$K" ;;
  esac
}
is_orphan() {
  read -r STAT < "/proc/$1/stat" || return 1
  set -- ${STAT##*) }
  [ "$2" != 1 ] || return 0
  read -r STAT < "/proc/$2/stat" || return 1
  case $STAT in *' (sudo) '*) is_orphan "$2" ;; *) return 1 ;; esac
} 2>/dev/null
await_end() { for _ in 1 2 3 4 5 6 7 8 9 10; do [ -d "/proc/$1" ] || return 0; sleep 0.5; done; }
remove_stale() {
  for LEFT in "$1"/.moorfast-????????; do
    [ ! -f "$LEFT" ] || [ -L "$LEFT" ] || find "$LEFT" -mmin +1440 -exec rm -f -- {} +
  done
  [ -n "$MACHINE" ] || return 0
  for LEFT in "$1/.moorfast-$MACHINE-"*.????????; do
    OWNER=${LEFT##*/.moorfast-"$MACHINE"-}; OWNER=${OWNER%.*}
    case $OWNER in ''|*[!0-9]*) continue ;; esac
    if [ -d "/proc/$OWNER" ] && is_orphan "$OWNER"; then await_end "$OWNER"; fi
    if [ -L "$LEFT" ] || [ -d "/proc/$OWNER" ]; then continue; fi
    if [ -f "$LEFT" ]; then rm -f -- "$LEFT"; fi
    # The file shows that no other directory was moved here.
    if [ -d "$LEFT" ]; then ( cd -- "$LEFT" && [ -f .moorfast-staging ] && find . -mindepth 1 -delete ); rmdir -- "$LEFT"; fi
  done
}
open_temporary() {
  remove_stale "$1" || true
  T=$(mktemp -u -- "$1/.moorfast-$MACHINE-$$.XXXXXXXX")
  trap 'rm -f -- "$T"' EXIT
  trap 'exit 143' TERM HUP INT
  umask 077; set -C; exec 6> "$T"; set +C; umask 022
}
create_temporary() { open_temporary "$1"; exec 6>&-; }
open_existing() {
  kind "$1"
  case $K in regular*|directory) ;; absent) fail failed 'the object no longer exists' ;; *) fail conflict "there is a $K at that path" ;; esac
  exec 6< "$1"
  [ "$(stat -L -c %d:%i /proc/self/fd/6)" = "$(stat -c %d:%i -- "$1")" ] || fail conflict 'the path was replaced by a symbolic link'
}
