# shellcheck shell=sh disable=SC2154
# Shell that waits until all output is read: a moment, unless a background process keeps it open.
for D in 0.01 0.02 0.05 0.1 0.2 0.5 1; do
  if [ -e "$F/read.1" ] && [ -e "$F/read.2" ]; then break; fi
  sleep "$D"
done
