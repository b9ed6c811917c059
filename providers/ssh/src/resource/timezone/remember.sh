# shellcheck shell=sh disable=SC2154
# Shell that reports the state from before the operation. The field `before` comes last: without it the report is incomplete.
case $K in 'symbolic link') readlink -n -- "$L" | blob before_target ;; esac
if has_file; then blob before_file < "$F"; fi
field before yes
