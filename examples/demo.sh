#!/bin/sh
# The main job, with server and client as two processes: 100 connections, 1,000
# generated messages on each, every byte checked. The argument is the port; with
# 0 the system chooses one.
set -eu

port=${1:-65432}
log=$(mktemp)

twistd -n --pidfile= multiecho --trace none 127.0.0.1 "$port" >"$log" &
server=$!
trap 'kill $server 2>/dev/null || true; wait $server 2>/dev/null || true; rm -f "$log"' EXIT
trap 'exit 130' INT TERM

tries=0
until told=$(grep -o 'listening on 127.0.0.1:[0-9]*' "$log"); do
    kill -0 $server 2>/dev/null || {
        echo "demo: the server has ended; if port $port is taken: make demo DEMO_PORT=0" >&2
        exit 1
    }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "demo: the server does not come up" >&2; exit 1; }
    sleep 0.1
done
port=${told##*:}

echo "server: twistd -n --pidfile= multiecho --trace none 127.0.0.1 $port"
echo "client: python -m echofactory.client 127.0.0.1 $port 100 --size 1k --count 1000"
python -m echofactory.client 127.0.0.1 "$port" 100 --size 1k --count 1000
