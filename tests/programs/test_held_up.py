"""
A client that was stopped for some time, as by a suspended machine, does not blame its
peers.
"""

import json
import signal
import time

import pytest
from programs import CLIENT, multiecho, running
from schema import validate


@pytest.mark.parametrize("loop", ["closed", "open"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_replies_that_came_meanwhile_are_read_first(transport: str, loop: str) -> None:
    """It is stopped for longer than a reply may take, and every reply is there."""
    udp = ["--udp", "127.0.0.1:0", "--udp-rate", "1M"] if transport == "udp" else []
    load = ["--rate", "100"] if loop == "open" else []
    with multiecho("--trace", "none", *udp, "127.0.0.1", "0") as (server, port):
        over = r"listening on udp 127.0.0.1:(\d+)"
        target = f"{transport}:127.0.0.1:{server.waitFor(over)[1] if udp else port}"
        with running(
            [*CLIENT, "--connect", target, "-n", "5", "--size", "64", *load, "--duration",
             "5s", "--reply-timeout", "1s", "--json", "-", "--quiet", "--progress", "always"]
        ) as program:  # fmt: skip
            program.waitFor(r"^ +1\.\d s", program.err)
            program.process.send_signal(signal.SIGSTOP)
            # The standstill is what is tested: there is nothing else to wait for.
            time.sleep(2.0)
            program.process.send_signal(signal.SIGCONT)
            assert program.finish() == 0, program.err
    results = validate(json.loads("\n".join(program.out)))
    assert results["failures"] == {}
    assert results["messages"]["unanswered"] == 0
