# shellcheck shell=sh disable=SC2034,SC2086,SC2154
# Shell functions about the mount point "$P", which is "$POINT" in /etc/fstab and in /proc/self/mountinfo.
#
# `find_entry` sets `ENTRIES` to the lines of /etc/fstab for it, and `SOURCE`, `TYPE` and `OPTIONS` to the fields of the last one. `find_mount` sets
# `MOUNTED` to the line of /proc/self/mountinfo of what is mounted there now. `is_mounted SOURCE TYPE OPTIONS` is true if that is mounted now.
find_entry() {
  ENTRIES=
  [ -f /etc/fstab ] || return 0
  while IFS= read -r L || [ -n "$L" ]; do
    set -f; set -- $L; set +f
    case ${1-} in ''|'#'*) continue ;; esac
    if [ "${2-}" = "$POINT" ] || [ "${2-}" = "$POINT/" ]; then
      ENTRIES="$ENTRIES$L
"
      SOURCE=$(printf %b "$1") TYPE=${3-auto} OPTIONS=${4-defaults}
    fi
  done < /etc/fstab
}
find_mount() { MOUNTED=$(grep -F -- " $POINT " /proc/self/mountinfo | while read -r A B C R M L; do [ "$M" != "$POINT" ] || printf '%s\n' "$A $B $C $R $M $L"; done | tail -n 1); }
is_mounted() {
  [ -n "$MOUNTED" ] || return 1
  set -f; set -- "$1" "$2" "$3" ${MOUNTED##* - }; set +f
  case ,$3, in *,bind,*|*,rbind,*)
    [ "$(stat -L -c %d:%i -- "$1" 2>/dev/null)" = "$(stat -L -c %d:%i -- "$P" 2>/dev/null)" ]
    return ;;
  esac
  case $2 in auto|"$4"|*,*) ;; nfs*) case $4 in nfs*) ;; *) return 1 ;; esac ;; *) return 1 ;; esac
  # The source of a file system in memory is only a name.
  case $4 in tmpfs|ramfs) return 0 ;; esac
  case $1 in
  *=*|/*) [ "$(readlink -f -- "$(findfs "$1" 2>/dev/null || printf %s "$1")")" = "$(readlink -f -- "$(printf %b "$5")")" ] ;;
  *) [ "$1" = "$(printf %b "$5")" ] ;;
  esac
}
# `write_entry LINE` writes the line for the mount point in place of the existing one, or at the end. Without a line it removes the existing one.
write_entry() {
  open_text /etc/fstab
  X=$1
  {
    while IFS= read -r L || [ -n "$L" ]; do
      set -f; set -- $L; set +f
      case ${1-} in ''|'#'*) printf '%s\n' "$L"; continue ;; esac
      if [ "${2-}" != "$POINT" ] && [ "${2-}" != "$POINT/" ]; then printf '%s\n' "$L"; continue; fi
      [ -z "$X" ] || printf '%s\n' "$X"
      X=
    done
    [ -z "$X" ] || printf '%s\n' "$X"
  } < "$S" >&6
  save_text /etc/fstab
  [ ! -d /run/systemd/system ] || systemctl daemon-reload
}
unmount() {
  if ! X=$(umount -- "$P" 2>&1); then
    case $X in
    *busy*)
      printf %s "stop what uses it: \`fuser -vm $P\` lists the processes, and \`findmnt -R $P\` the mounts below it" | blob help
      fail conflict "the file system at $P is in use" ;;
    *) fail failed "$X" ;;
    esac
  fi
}
# `mount_as OPTIONS` mounts the file system. It gets all from the manifest, so that only a line that works is written to /etc/fstab.
mount_as() { X=$(mount -t "$TYPE" -o "$1" -- "$SOURCE" "$P" 2>&1) || fail failed "$(printf '%s\n' "$X" | head -n 1)"; }
