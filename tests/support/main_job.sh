#!/bin/sh
# Does the main job with the command echofactory, which the words start: a server, a client
# that checks every byte, the report of its results, and the same report again.
#
#     sh tests/support/main_job.sh python -m echofactory
set -eu

place=$(mktemp -d)
cd "$place"
"$@" --version
"$@" serve --trace none 127.0.0.1 0 >log &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -rf "$place"' EXIT
trap 'exit 130' INT TERM

tries=0
until told=$(grep -o 'listening on 127.0.0.1:[0-9]*' log); do
    kill -0 $server
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { echo "main job: the server did not start within 60 s" >&2; exit 1; }
    sleep 0.1
done
"$@" 127.0.0.1 "${told##*:}" 10 --size 1k --count 10 --json run.json >report
"$@" report run.json >again
cmp report again
grep 'verdict  *ok' report
