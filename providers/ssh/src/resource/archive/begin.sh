# shellcheck shell=sh disable=SC2015,SC2034,SC2154
# Creates the temporary directory: `$Z` is the archive, `$S` the unpacked files. The functions below write the marker `$M`. Until all files are in place,
# it lists the old and the new files and an `unfinished` line.
mark() { open_temporary "$P"; trap clean EXIT; cat >&6; chmod 0644 /proc/self/fd/6; sync -- /proc/self/fd/6; exec 6>&-; mv -fT -- "$T" "$M"; }
mark_unfinished() {
  { printf '%s\n' "$X" 'unfinished *./.moorfast-unfinished'; cat -- "$S.was" "$S.list"; } > "$S.mark"
  mark < "$S.mark"
}
mark_finished() {
  { printf '%s\n' "$X"; cat -- "$S.list"; } > "$S.mark"
  mark < "$S.mark"
}
clean() {
  rm -rf -- "$F" "$T"
  [ -z "$made" ] || rmdir -- "$P" 2>/dev/null || true
}
verify() {
  X=$(sha256sum < "$Z"); X=${X%% *}
  [ "$X" = "$1" ] || fail failed "the SHA-256 of the archive is not the one in the manifest: $X"
}
# Sets the owner of the unpacked files. chown clears the setuid and setgid bits of files, so they are set again.
set_owner() {
  find "$S" -type f -perm /6000 -exec stat -c '%a %n' -- {} + > "$S.bits"
  chown -hR -- "$1" "$S"
  while read -r B A; do chmod -- "$B" "$A"; done < "$S.bits"
}
made=; [ -d "$P" ] || { mkdir -p -- "$P"; made=yes; }
F=$(mktemp -u -- "$P/.moorfast-XXXXXXXX"); S=$F/s; Z=$F/archive; T=$F/none
trap clean EXIT
trap 'exit 143' TERM HUP INT
mkdir -m 0700 -- "$F"; mkdir -- "$S"
