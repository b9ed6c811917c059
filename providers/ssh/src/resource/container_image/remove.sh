# shellcheck shell=sh disable=SC2154
# Removes the image `$I`, and the entry by which Kubernetes finds the image by its ID, if no other name of the image is left.
images() { ctr --namespace "$C" images "$@"; }
if [ -n "$(command -v ctr)" ] && X=$(images list "name==$I" 2>&1); then
  D=$(printf '%s\n' "$X" | while read -r A _ D _; do [ "$A" != "$I" ] || printf %s "$D"; done)
  if [ -n "$D" ]; then
    images remove "$I" >/dev/null
    X=$(images list "target.digest==$D" | while read -r A _ E _; do [ "$E" != "$D" ] || printf '%s\n' "$A"; done)
    case $X in
    ''|*[!a-f0-9:sh]*) ;;
    sha256:*) images remove "$X" >/dev/null ;;
    esac
  fi
fi
