# shellcheck shell=sh
# Reports the beginning of the regular file "$1", one byte more than is shown of a file.
[ ! -f "$1" ] || [ -L "$1" ] || report head -c 65537 -- "$1"
