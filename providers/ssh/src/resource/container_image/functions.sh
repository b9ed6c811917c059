# shellcheck shell=sh disable=SC2154
# Functions for the images of the containerd namespace `$C`: `images` is its command, `list_image` prints the row of the image `$I`, and `digest` its digest.
images() { ctr --namespace "$C" images "$@"; }
list_image() { images list "name==$I" | while read -r A L; do [ "$A" != "$I" ] || printf '%s\n' "$A $L"; done; }
digest() { list_image | while read -r _ _ D _; do printf %s "$D"; done; }
