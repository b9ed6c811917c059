# shellcheck shell=sh disable=SC2154
# Shell variables and functions. `has_file` is true if `/etc/timezone` is a file; a link belongs to somebody else.
L=/etc/localtime; F=/etc/timezone
has_file() { [ -f "$F" ] && [ ! -L "$F" ]; }
set_link() { create_temporary /etc; ln -sfT -- "$1" "$T"; mv -fT -- "$T" "$L"; }
kind "$L"
