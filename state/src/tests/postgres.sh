#!/bin/sh
# A PostgreSQL server in a new folder: sh postgres.sh FOLDER_OF_THE_PROGRAMS. Prints the folder of its socket.
# Runs until its standard input is closed, which happens however the parent process ends; then removes everything.
bin=$1 dir=$(mktemp -d) && chmod 755 "$dir" || exit
as() { "$@"; }
if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }; fi
cd "$dir" && as "$bin/initdb" -D "$dir/data" -A trust -U postgres >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
as "$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= >>"$dir/log" 2>&1 &
until "$bin/pg_isready" -q -h "$dir"; do kill -0 $! || { cat "$dir/log"; exit 1; }; done
echo "$dir"
cat >/dev/null
kill -INT "$(head -n 1 "$dir/data/postmaster.pid")"
wait
rm -rf "$dir"
