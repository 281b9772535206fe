"""
Each fault of C{twistd multiecho --fault}, and what C{python -m echofactory.client}
makes of it: it is noticed, and called by its name. Where the processes are not the
point, both command lines are served by this one.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from peers import Certificates, portOf, serving
from programs import client, multiecho
from pytest_twisted import ensureDeferred
from schema import validate

from echofactory import EchoClientFactory, Faults, Workload
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.server import ServerOptions
from echofactory.results.json import toJSON
from echofactory.server.faults.settings import MAX_CATCH_UP, TICK, ConnectionFaults
from echofactory.server.service import echoFactory

MS = 1_000_000
SEED = 11


async def probed(reactor: Any, faults: str, *load: str, verdict: str = "failed") -> Any:
    """
    Do in this process what both programs do with these command lines; return the JSON of
    the results.
    """
    server, client = ServerOptions(), ClientOptions()
    server.parseOptions(["--fault", faults, "--fault-seed", str(SEED), "127.0.0.1", "0"])
    client.parseOptions(["127.0.0.1", "7", *load])
    factory = EchoClientFactory(
        reactor, client.workload, client.connections, client.patience, opening=client.opening
    )
    async with serving(reactor, factory=echoFactory(server.settings, reactor)) as service:
        results = await factory.run(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
    assert results.verdict == verdict, results.examples
    return validate(toJSON(results, "1"))


def probedByPrograms(
    faults: str, *load: str, status: int = 1, listen: Sequence[str] = ("127.0.0.1", "0")
) -> tuple[Any, list[str]]:
    """
    Run both programs.

    @return: the results, and the lines of the server.
    """
    server = ["--fault", faults, "--fault-seed", str(SEED), *listen]
    with multiecho(*server) as (program, port):
        done = client("127.0.0.1", str(port), *load, "--json", "-", "--quiet")
        program.end()
    assert done.process.returncode == status, done.err
    return validate(json.loads("\n".join(done.out))), program.out


def stream(workload: Workload, connection: int = 1) -> bytes:
    """Return what the client sends on one connection."""
    script = workload.script(connection)
    assert workload.messagesPerConnection is not None
    return b"".join(map(script.block, range(script.end(workload.messagesPerConnection))))


def firstDifference(faults: Faults, sent: bytes) -> tuple[int, bytes]:
    """Return where the damaged stream first differs, and what is there instead."""
    returned = ConnectionFaults(faults, SEED, 1).damage.feed(sent)
    pairs = enumerate(zip(sent, returned, strict=False))
    at = next(at for at, (one, other) in pairs if one != other)
    return at, returned[at:]


@ensureDeferred
async def test_delay_and_jitter(reactor: Any) -> None:
    """No reply takes less than the delay less the jitter, and most take longer."""
    load = ["5", "--size", "64", "--count", "20"]
    results = await probed(reactor, "delay=30ms,jitter=10ms", *load, verdict="ok")
    assert results["messages"]["verified"] == 100
    service = results["service_ns"]
    assert service["min"] >= 20 * MS
    assert service["p50"] >= 26 * MS


@ensureDeferred
async def test_throttle(reactor: Any) -> None:
    """No more bytes a second come back, on two connections, than twice the throttle."""
    load = ["2", "--size", "16k", "--window", "4", "--count", "6"]
    results = await probed(reactor, "throttle=200k", *load, verdict="ok")
    allowed = 2 * 200 * 1024 * (results["elapsed_s"] + MAX_CATCH_UP + 2 * TICK)
    assert results["bytes"]["received"] == 2 * 6 * 16 * 1024 <= allowed


def test_dribble() -> None:
    """Three bytes at a time all come, each write for itself."""
    results, told = probedByPrograms("dribble=3", "1", "--message", "12345678", status=0,
                     listen=["--trace", "data", "127.0.0.1", "0"])  # fmt: skip
    echoed = [match[1] for line in told if (match := re.search(r"echoing (\S+) to", line))]
    assert echoed == ["b'123'", "b'456'", "b'78'"]
    assert results["messages"]["verified"] == 1


@pytest.mark.parametrize("fault", ["corrupt", "drop", "repeat"])
@ensureDeferred
async def test_damage(reactor: Any, fault: str) -> None:
    """
    It is a mismatch, in the message and at the offset where the pure part puts it,
    with the bytes that came instead.
    """
    workload = Workload(size=20_000, count=50)
    chance: dict[str, Any] = {fault: 3e-6}
    at, instead = firstDifference(Faults(**chance), stream(workload))
    load = ["1", "--size", "20000", "--count", "50", "--window", "50"]
    results = await probed(reactor, f"{fault}=3e-6", *load)
    assert results["failures"] == {"mismatch": 1}
    message, offset = divmod(at, 20_000)
    assert results["messages"]["verified"] == message
    assert results["messages"]["mismatched"] == 1
    text = results["examples"]["mismatch"]["detail"]
    assert text.startswith(f"message {message + 1}, offset {offset:,}: expected b")
    # As far as it was there when the difference was seen.
    shown = re.search(r"received (b.*)$", text)
    assert shown is not None
    assert instead.startswith(eval(shown[1]))


@ensureDeferred
async def test_a_last_byte_dropped(reactor: Any) -> None:
    """Nothing is wrong but that it never comes: a reply that times out."""
    results = await probed(reactor, "drop=1", "2", "--message", "x", "--reply-timeout", "300ms")
    assert results["failures"] == {"reply-timeout": 2}
    assert results["messages"]["unanswered"] == 2


@ensureDeferred
async def test_a_byte_dropped_before_the_end(reactor: Any) -> None:
    """With a half-close it is the end that comes too early."""
    results = await probed(reactor, "drop=1", "2", "--message", "x", "--half-close")
    assert results["failures"] == {"closed-early": 2}


@ensureDeferred
async def test_a_last_byte_repeated(reactor: Any) -> None:
    """All is back, and then one more."""
    results = await probed(reactor, "repeat=1", "2", "--message", "x")
    assert results["failures"] == {"extra-bytes": 2}
    assert "received b'x' unasked" in results["examples"]["extra-bytes"]["detail"]


@ensureDeferred
async def test_truncate(reactor: Any) -> None:
    """The stream ends early, after just so many bytes."""
    results = await probed(reactor, "truncate=64k", "3", "--size", "1M")
    assert results["failures"] == {"closed-early": 3}
    assert results["bytes"]["received"] == 3 * 65536


@ensureDeferred
async def test_reset(reactor: Any) -> None:
    """As many connections as the chances have it are reset, when they have sent."""
    faults = Faults(reset=0.3)
    expected = sum(ConnectionFaults(faults, SEED, number).reset for number in range(1, 51))
    assert 5 < expected < 30
    results = await probed(reactor, "reset=0.3", "50", "--size", "1k")
    assert results["failures"] == {"reset": expected}
    assert results["connections"]["completed"] == 50 - expected


@ensureDeferred
async def test_stall(reactor: Any) -> None:
    """Some reply waits for all of it, by the schedule, of which a message is every 5 ms."""
    load = ["5", "--size", "64", "--rate", "200", "--duration", "600ms"]
    results = await probed(reactor, "stall=200ms/500ms", *load, verdict="ok")
    assert results["messages"]["verified"] == 120
    assert results["response_ns"]["max"] >= 190 * MS


def test_refuse() -> None:
    """So many end early or are reset, and the server has counted the same."""
    results, told = probedByPrograms("refuse=0.2", "200", "--size", "64")
    assert set(results["failures"]) <= {"closed-early", "reset"}
    failed = results["connections"]["failed"]
    # Four standard deviations.
    assert failed == pytest.approx(40, abs=23)
    counts = re.findall(r"refused (\d+) connections \(fault on purpose: \d+\)", "\n".join(told))
    assert failed == sum(map(int, counts))
    assert failed == sum(
        ConnectionFaults(Faults(refuse=0.2), SEED, number).refused for number in range(1, 201)
    )


def test_several_and_again() -> None:
    """
    Several at once, given in two ways; and the same seed fails the same connections
    in the same way, by the same byte.
    """
    faults = "refuse=0.1,reset=0.1,corrupt=2e-5,delay=1ms,dribble=4k"
    load = ["40", "--size", "10k", "--count", "2", "--connect-rate", "400"]

    def failed(*arguments: str) -> dict[int, str]:
        with multiecho(*arguments, "127.0.0.1", "0") as (_, port):
            done = client("127.0.0.1", str(port), *load, "--trace", "connections")
        assert done.process.returncode == 1
        told = re.findall(
            r"^connection (\d+) to \S+ failed: (.*?)(?:, received .*)?$",
            "\n".join(done.out),
            re.MULTILINE,
        )
        # Who is refused may learn of it by a reset, if it has sent already.
        return {
            int(number): re.sub("^(closed-early|reset):.*", "cut", how) for number, how in told
        }

    first = failed("--fault", faults, "--fault-seed", "3")
    one, two = faults.split(",", 1)
    assert failed("--fault", one, "--fault", two, "--fault-seed", "3") == first
    both = Faults(refuse=0.1, reset=0.1)
    drawn = [ConnectionFaults(both, 3, number) for number in range(1, 41)]
    cut = [number for number, each in enumerate(drawn, 1) if each.refused or each.reset]
    assert sorted(number for number, how in first.items() if how == "cut") == cut
    assert sum(how.startswith("mismatch: message ") for how in first.values()) > 5
    assert failed("--fault", faults, "--fault-seed", "4") != first


def test_the_seed_is_told() -> None:
    """Without one, it is drawn; what is told has the same go wrong again."""
    load = ["--size", "10k", "--count", "5"]
    with multiecho("--fault", "corrupt=1e-3", "127.0.0.1", "0") as (program, port):
        told = program.waitFor(r"misbehaving on purpose: (--fault \S+ --fault-seed \d+)$")[1]
        first = client("127.0.0.1", str(port), "1", *load, "--quiet").err
    with multiecho(*told.split(), "127.0.0.1", "0") as (_, again):
        second = client("127.0.0.1", str(again), "1", *load, "--quiet").err
    assert "mismatch" in first[0]
    assert [line.replace(str(port), "") for line in first] == [
        line.replace(str(again), "") for line in second
    ]


def test_over_tls(certificates: Certificates) -> None:
    """
    The kinds are the same: no alert, with which TLS says that all is in order, goes
    before a reset. One that is refused has not got as far as TLS.
    """
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"

    def failures(port: int) -> Any:
        target = f"tls:localhost:{port}:trustRoots={certificates.trust}"
        done = client("--connect", target, "-n", "5", "--size", "100k", "--json", "-",
                      "--quiet")  # fmt: skip
        return validate(json.loads("\n".join(done.out)))["failures"]

    with multiecho("--fault", "reset=1", "--listen", listen) as (_, port):
        assert failures(port) == {"reset": 5}
    with multiecho("--fault", "refuse=1", "--listen", listen) as (_, port):
        found = failures(port)
        assert set(found) <= {"tls", "reset", "closed-early"}
        assert sum(found.values()) == 5


def test_over_a_unix_socket(folder: Path) -> None:
    """What is not of TCP is the same there."""
    path = folder / "echo.sock"
    with multiecho("--fault", "delay=20ms,truncate=1000", "--listen", f"unix:{path}"):
        done = client("--connect", f"unix:{path}", "-n", "3", "--size", "400", "--count", "5",
                      "--json", "-", "--quiet")  # fmt: skip
    results = validate(json.loads("\n".join(done.out)))
    assert results["failures"] == {"closed-early": 3}
    assert results["messages"]["verified"] == 6
    assert results["service_ns"]["min"] >= 19.9 * MS


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "delay=fast"], "--fault: 'delay=fast' is not a duration such as 250ms"),
        (["--fault", "delay"], "--fault: 'delay' is a fault without its value: delay=20ms"),
        (["--fault", "delay=0"], "--fault: 'delay=0' is a fault without effect"),
        (["--fault", ""], "--fault: '' is not a fault such as delay=20ms. The faults are"),
        (["--fault", "slow=1"], "--fault: 'slow=1' is not a fault such as delay=20ms. The fa"),
        (["--fault", "delay=1s,"], "--fault: '' is not a fault"),
        (["--fault", "throttle=fast"], "--fault: 'throttle=fast' is not a size such as 64"),
        (["--fault", "dribble=0"], "--fault: 'dribble=0' is a fault without effect"),
        (["--fault", "truncate=-1"], "--fault: 'truncate=-1' is not a size"),
        (["--fault", "corrupt=0"], "--fault: 'corrupt=0' is a fault without effect"),
        (["--fault", "drop=2"], "--fault: 'drop=2' is not a probability from 0 to 1"),
        (["--fault", "repeat=nan"], "--fault: 'repeat=nan' is not a probability"),
        (["--fault", "reset=1e-999"], "--fault: 'reset=1e-999' is a fault without effect"),
        (["--fault", "refuse=often"], "--fault: 'refuse=often' is not a probability"),
        (["--fault", "stall=1s"], "--fault: 'stall=1s' is not two durations, the first less"),
        (["--fault", "stall=2s/1s"], "--fault: 'stall=2s/1s' is not two durations"),
        (["--fault", "jitter=5ms"],
         "--fault: jitter: 5ms is more than the delay, which is 0ms"),
        (["--fault", "delay=1ms", "--fault", "jitter=5ms"],
         "--fault: jitter: 5ms is more than the delay, which is 1ms"),
        (["--fault", "delay=1s,delay=1s"], "--fault: 'delay=1s' is a second delay: give it"),
        (["--fault", "drop=1", "--fault", "drop=1"], "--fault: 'drop=1' is a second drop"),
        (["--fault", "drop=1", "--fault-seed", "x"], "--fault-seed: 'x' is not a whole"),
        (["--fault-seed", "1"], "--fault-seed: a seed needs faults"),
        (["--fault", "drop=1", "--udp", "127.0.0.1:0"],
         "--fault and --udp: there are no faults over UDP"),
        (["--fault", "drop=1", "--fault-seed", "1", "--workers", "2"],
         "--fault-seed and --workers: a seed would reproduce nothing"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(
    refusal: Callable[..., str], arguments: list[str], said: str
) -> None:
    """One line that names the option, the value and what is accepted; exit 2."""
    line = refusal(ServerOptions().parseOptions, *arguments, "127.0.0.1", "0")
    assert line.startswith(f"multiecho: {said}"), line


@pytest.mark.parametrize("arguments", [["--fault-seed", "1", "--workers", "1"],
                                       ["--workers", "2"]])  # fmt: skip
def test_workers_with_faults(arguments: list[str]) -> None:
    """One has all the connections, in order; several have faults, but none that repeat."""
    options = ServerOptions()
    options.parseOptions(["--fault", "drop=1", *arguments, "127.0.0.1", "0"])
    assert options.settings.faults == Faults(drop=1)
