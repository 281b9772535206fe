#!/bin/sh
# Walks the way of three people who know nothing of echofactory, with what the documents say, in an
# environment in which it is installed; and that of a contributor, with a clone of the checkout.
#
#     sh tests/support/walks.sh VENV CHECKOUT
set -eu

bin=$1/bin
checkout=$2
place=$(mktemp -d)
cd "$place"
servers=""
trap 'kill $servers 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$place"' EXIT
trap 'exit 130' INT TERM

step() { printf '\n-- %s\n' "$*"; }

# Starts a server in the background, and prints its port when it listens.
serve() {
    "$bin/echofactory" serve --trace none "$@" 127.0.0.1 0 >"log.$#" &
    servers="$servers $!"
    tries=0
    until port=$(grep -o 'listening on 127.0.0.1:[0-9]*' "log.$#"); do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || { echo "walks: the server did not start" >&2; exit 1; }
        sleep 0.1
    done
    port=${port##*:}
}

# The exit status of a command.
status() { "$@" >output 2>&1 && echo 0 || echo $?; }

step "an engineer with a suspicious load balancer"
serve
direct=$port
if command -v haproxy >/dev/null; then
    # docs/proxies.md
    through=$("$bin/python" -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
    sed "s/127.0.0.1:8080/127.0.0.1:$through/; s/127.0.0.1:7007/127.0.0.1:$direct/" \
        "$checkout/examples/haproxy.cfg" >haproxy.cfg
    haproxy -f haproxy.cfg &
    servers="$servers $!"
else
    through=$direct
fi
"$bin/echofactory" 127.0.0.1 "$direct" 20 --size 64 --rate 200 --duration 1s --json direct.json >/dev/null
"$bin/echofactory" 127.0.0.1 "$through" 20 --size 64 --rate 200 --duration 1s --reconnect \
    --json through.json >/dev/null
"$bin/echofactory" report direct.json through.json >compared
grep 'response time p50' compared
# A path that damages bytes is found.
serve --fault corrupt=0.01
[ "$(status "$bin/echofactory" 127.0.0.1 "$port" --size 10k --count 10)" = 1 ]
grep 'mismatch' output

step "a Twisted developer with an application"
cat >probe.py <<'END'
# docs/twisted.md: the server and the probe in one program.
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from echofactory import EchoFactory, EchoService, Workload, probe


async def main(reactor):
    service = EchoService(reactor, ["express:tcp:0:interface=127.0.0.1"], EchoFactory())
    service.startService()
    (address,) = service.addresses
    endpoint = f"express:tcp:127.0.0.1:{address.port}"
    results = await probe(reactor, endpoint, Workload(size=1024, count=10), connections=5)
    await service.stopService()
    print(results.verdict, results.verified)


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
END
[ "$("$bin/python" probe.py)" = "ok 50" ]

step "someone with a pipeline"
[ "$(status "$bin/echofactory" 127.0.0.1 "$direct" --size 64 --count 10 --expect 'p99<10s,failed<=0')" = 0 ]
[ "$(status "$bin/echofactory" 127.0.0.1 "$direct" --size 64 --count 10 --expect 'p99<1us')" = 3 ]
grep 'p99 < 1.0 µs\|p99 < 1 µs\|p99 < 1' output | head -n 1
[ "$(status "$bin/echofactory" 127.0.0.1 1 --count 1)" = 1 ]
[ "$(status "$bin/echofactory" 127.0.0.1 1 --cuont 1)" = 2 ]
grep 'did you mean' output

step "a contributor"
git clone --quiet "$checkout" clone
cd clone
make --silent demo DEMO_PORT=0 >demo
grep 'verdict  *ok' demo
make --silent .venv/.tools
.venv/bin/python -m pytest -q tests/workload
