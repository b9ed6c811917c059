#!/bin/sh
# An S3 server over a new folder with the bucket `states`: sh s3.sh VERSITYGW PORT
# Runs until its standard input is closed, which happens however the parent process ends; then removes everything.
dir=$(mktemp -d) && mkdir "$dir/states" || exit
"$1" --port "127.0.0.1:$2" posix "$dir" >/dev/null 2>&1 &
cat >/dev/null
kill $!
wait
rm -rf "$dir"
