# shellcheck shell=sh disable=SC2154
# `version NAME` prints the installed version, or nothing. `installed NAME[=VERSION]…` prints the names of those that are installed.
if [ -x /usr/bin/apt-get ]; then
  version() { dpkg-query -W -f '${db:Status-Status} ${Version}\n' -- "$1" 2>/dev/null | while read -r S V; do [ "$S" != installed ] || printf '%s\n' "$V"; done || true; }
elif [ -x /usr/bin/dnf ]; then
  version() { if X=$(rpm -q --qf '%{VERSION}-%{RELEASE}\n' -- "$1" 2>/dev/null); then printf '%s\n' "$X" | head -n 1; fi; }
else
  fail failed 'the node has neither apt nor dnf'
fi
installed() { for A do [ -z "$(version "${A%%=*}")" ] || printf '%s\n' "${A%%=*}"; done; }
