# shellcheck shell=sh disable=SC2154
# Shell variables and functions. `has_file` is true if `/etc/timezone` is a file; a link belongs to somebody else.
L=/etc/localtime; F=/etc/timezone
has_file() { [ -f "$F" ] && [ ! -L "$F" ]; }
set_link() { create_temporary /etc; ln -sfT -- "$1" "$T"; mv -fT -- "$T" "$L"; }
write_file() {
  create_temporary /etc
  printf %s "$1" > "$T"
  if [ -f "$F" ]; then chown --reference="$F" -- "$T"; chmod --reference="$F" -- "$T"; else chmod 0644 -- "$T"; fi
  sync -- "$T"; mv -fT -- "$T" "$F"
}
kind "$L"
