# shellcheck shell=sh disable=SC2154
# Unpacks the zip `$Z` into `$S`.
[ -n "$(command -v unzip)" ] || fail failed 'unzip is not installed (install it with ssh_package)'
unzip -q -o -d "$S" -- "$Z"
while [ "$strip" -gt 0 ]; do
  mkdir -- "$S.up"
  for A in "$S"/*/* "$S"/*/.[!.]*; do [ ! -e "$A" ] || mv -f -- "$A" "$S.up"; done
  rm -rf -- "$S"; mv -fT -- "$S.up" "$S"; strip=$((strip - 1))
done
