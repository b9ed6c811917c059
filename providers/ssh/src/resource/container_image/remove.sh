# shellcheck shell=sh disable=SC2154
# Removes the image `$I`. Kubernetes finds an image by its ID through an entry of its own, which is removed with the last name of the image.
if [ -n "$(command -v ctr)" ]; then
  D=$(digest 2>/dev/null)
  if [ -n "$D" ]; then
    images remove "$I" >/dev/null
    X=$(images list "target.digest==$D" | while read -r A _ E _; do [ "$E" != "$D" ] || printf '%s\n' "$A"; done)
    case $X in
    ''|*[!a-f0-9:sh]*) ;;
    sha256:*) images remove "$X" >/dev/null ;;
    esac
  fi
fi
