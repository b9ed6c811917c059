# shellcheck shell=sh disable=SC2154
# Shell that reports the link and the file.
field kind "$K"
case $K in 'symbolic link') readlink -n -- "$L" | blob target ;; esac
if has_file; then blob file < "$F"; fi
