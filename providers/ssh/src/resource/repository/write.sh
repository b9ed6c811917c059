# shellcheck shell=sh disable=SC2154
# Shell that checks the repository and then writes its key and its file.
[ -n "$(command -v "$MANAGER")" ] || fail failed "the node has no $MANAGER"
X=$(mktemp -d)
trap 'rm -rf -- "$X"' EXIT
chmod 0755 "$X"
NEW_KEY=${KEY##*/}; NEW_KEY=$X/${NEW_KEY:-none}
print_key > "$NEW_KEY"
read_repository
rm -rf -- "$X"
if [ -n "$KEY" ]; then
  mkdir -p -- "${KEY%/*}"
  open_text "$KEY"; print_key >&6; save_text "$KEY"
fi
for P in "$@"; do [ "$P" = "$KEY" ] || rm -f -- "$P"; done
mkdir -p -- "${F%/*}"
open_text "$F"; print_file >&6; save_text "$F"
