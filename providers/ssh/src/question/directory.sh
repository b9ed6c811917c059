# shellcheck shell=sh
# Reports, for each of the directories "$@", the nearest existing object above or at its path, why nothing can be written
# there, and the free space.
above() { A=$1; while [ ! -e "$A" ] && [ ! -L "$A" ]; do A=${A%/*}; A=${A:-/}; done; }
states() {
  C=
  for D do
    above "$D"
    if [ ! -d "$A" ]; then
      S='file'
    elif [ -w "$A" ]; then
      S='open'
    else
      [ "$A" = "$C" ] || { C=$A; L="closed $(id -u) $(lsattr -d -- "$A" 2>/dev/null | cut -d ' ' -f 1)"; }
      S=$L
    fi
    printf '%s\0%s\0%s\0' "$D" "$A" "$S"
  done
}
space() { for D do above "$D"; printf '%s\0' "$A"; done | xargs -0 -r stat -f --printf '%n\0%f %S %c %d\0' --; }
report states "$@"
space "$@" 2>/dev/null | blob space
