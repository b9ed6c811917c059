# shellcheck shell=sh
# A TCP connection to $TO_HOST:$TO_PORT between stdin and stdout. sh cannot open one; bash can.
# Prints $CONNECTED on a line of its own when the connection is open.
command -v bash >/dev/null || { echo "bash is not installed" >&2; exit 127; }
export TO_HOST TO_PORT CONNECTED
# shellcheck disable=SC2016 # bash expands the variables.
exec timeout "$LIMIT" bash -c '
exec 4<>"/dev/tcp/$TO_HOST/$TO_PORT" || exit 1
exec 5<&0
printf "%s\n" "$CONNECTED"
cat <&4 & reader=$!
cat <&5 >&4 & writer=$!
wait -n
kill "$reader" "$writer" 2>/dev/null
'
