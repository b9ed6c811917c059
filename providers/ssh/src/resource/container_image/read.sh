# shellcheck shell=sh disable=SC2154
# Reports the image `$I`: its digest, and the digest of the archive that it was imported from, if the image is still that one. While containerd is not
# installed or does not run, it has no images.
if [ -n "$(command -v ctr)" ]; then
  list_image 2>/dev/null | while read -r _ _ D L; do
    field digest "$D"
    L=",${L##* },"
    case $L in *",moorfast.archive="*"@$D,"*) L=${L#*,moorfast.archive=}; field sha256 "${L%%@*}" ;; esac
  done
fi
