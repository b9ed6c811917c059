# shellcheck shell=sh
# Reports what is at the paths "$@", without following a link at the end of a path.
export QUOTING_STYLE=literal
report stat --printf '%n\0%F\0%a %s %u %g %U:%G\0%N\0' -- "$@"
