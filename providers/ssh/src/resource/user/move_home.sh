# shellcheck shell=sh disable=SC2154
# Shell that makes `$D` the home of `$U`. The content of the old home moves, if the account owns it and nothing is at the new path.
X=$(getent passwd -- "$U"); H=${X%:*}; H=${H##*:}
if [ ! -e "$D" ]; then
  mkdir -p -- "$(dirname -- "$D")"
  if [ -d "$H" ] && [ "$(stat -c %u -- "$H")" = "$(id -u -- "$U")" ]; then
    usermod -m -d "$D" -- "$U"
  else
    mkdir -m 0755 -- "$D"; chown -h -- "$(id -u -- "$U"):$(id -g -- "$U")" "$D"
  fi
fi
