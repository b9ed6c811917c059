# shellcheck shell=sh disable=SC2154
# Rewrites `name=version` in the positional parameters to the syntax of the package manager.
if [ ! -x /usr/bin/apt-get ]; then
  for A in "$@"; do shift; case $A in *=*) A=${A%%=*}-${A#*=} ;; esac; set -- "$@" "$A"; done
fi
