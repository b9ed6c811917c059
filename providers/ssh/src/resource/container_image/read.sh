# shellcheck shell=sh disable=SC2154
# Reports the image `$I` of the containerd namespace `$C`: its digest, and the digest of the archive that it was imported from, if the image is still that
# one. While containerd is not installed or does not run, it has no images.
images() { ctr --namespace "$C" images "$@"; }
if [ -n "$(command -v ctr)" ] && X=$(images list "name==$I" 2>/dev/null); then
  printf '%s\n' "$X" | while read -r A _ D L; do
    [ "$A" = "$I" ] || continue
    field digest "$D"
    L=",${L##* },"
    case $L in *",moorfast.archive="*"@$D,"*) L=${L#*,moorfast.archive=}; field sha256 "${L%%@*}" ;; esac
  done
fi
