# shellcheck shell=sh disable=SC2154
# `fetch` downloads the address `$url` into `$Z`. The address may be secret, so no process has it in its arguments. curl reads it from `$config`.
fetch() {
  if [ -n "$(command -v curl)" ]; then printf '%s\n' "$config" | curl -fsSL --retry 3 -o "$Z" --config -
  elif [ -n "$(command -v wget)" ]; then printf '%s\n' "$url" | wget -q -O "$Z" -i -
  else fail failed 'neither curl nor wget is installed (install one with ssh_package, or use source)'; fi
}
