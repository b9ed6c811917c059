# shellcheck shell=sh disable=SC2154,SC2174
# Shell that writes the keys from descriptor 5 for `$U`.
O=$(id -u -- "$U"):$(id -g -- "$U")
[ -d "$H" ] || { mkdir -p -- "$H"; chown -h -- "$O" "$H"; }
mkdir -p -m 0700 -- "$H/.ssh"
enter
chown -- "$O" .; chmod 0700 .
open_temporary .
cat <&5 >&6
chown -- "$O" /proc/self/fd/6; chmod 0600 /proc/self/fd/6
mv -fT -- "$T" authorized_keys
