# shellcheck shell=sh disable=SC2154
# Shell that holds the held packages again: the installation of a held package ends its hold.
if [ -n "$holds" ]; then
  for A in $holds; do if [ -n "$(version "$A")" ]; then printf '%s\n' "$A"; fi; done | while read -r A; do apt-mark hold "$A"; done
fi
