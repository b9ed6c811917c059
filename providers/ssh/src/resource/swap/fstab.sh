# shellcheck shell=sh disable=SC2154
# Shell that passes each line of /etc/fstab as `L` through the function `rewrite`.
if [ -f /etc/fstab ]; then
  create_temporary /etc
  while IFS= read -r L || [ -n "$L" ]; do rewrite; done < /etc/fstab > "$T"
  chown --reference=/etc/fstab -- "$T"; chmod --reference=/etc/fstab -- "$T"; sync -- "$T"
  [ "$(sha256sum < "$T")" = "$(sha256sum < /etc/fstab)" ] || mv -fT -- "$T" /etc/fstab
fi
