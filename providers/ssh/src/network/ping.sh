# shellcheck shell=sh
# One echo request to $ADDRESS.
command -v ping >/dev/null || fail invalid "ping is not installed"
ping -n -c 1 -W "$LIMIT" -- "$ADDRESS" >/dev/null 2>&1 || fail failed "no echo reply within ${LIMIT}s"
