#!/bin/sh
# Runs a server and a client as two processes. The client opens 100 connections, sends
# 1,000 generated messages on each, and checks every byte. The argument is the port.
# 0: the system chooses it.
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
        echo "demo: the server ended. If port $port is in use: make demo DEMO_PORT=0" >&2
        exit 1
    }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { echo "demo: the server did not start within 30 s" >&2; exit 1; }
    sleep 0.1
done
port=${told##*:}

echo "server: twistd -n --pidfile= multiecho --trace none 127.0.0.1 $port"
echo "client: python -m echofactory.client 127.0.0.1 $port 100 --size 1k --count 1000"
python -m echofactory.client 127.0.0.1 "$port" 100 --size 1k --count 1000
