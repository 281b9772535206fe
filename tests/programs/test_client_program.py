"""
C{python -m echofactory.client} as a process: its exit status, its lines, its JSON.
"""

import json
import os
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import (
    Certificates,
    Handler,
    alters,
    closes,
    misbehaving,
    resets,
    sendsExtra,
)
from programs import CLIENT, LIMIT, Program, client, multiecho, residentBytes, running
from schema import validate

from echofactory import __version__
from echofactory.cli.client import main
from echofactory.cli.clientoptions import ClientOptions


def written(program: Program) -> Any:
    """Return the JSON that the program wrote to stdout, which follows the schema."""
    return validate(json.loads("\n".join(program.out)))


def test_no_arguments() -> None:
    """The program proves itself: its own server, the tutorial's job, every line of it."""
    with running([*CLIENT]) as program:
        assert program.finish() == 0
    assert program.err == []
    assert program.out[0].startswith("No address given: this process is client and server.")
    both = "b'Message 1 from client.Message 2 from client.'"
    for number in (1, 2):
        assert f"received {both} from connection {number}" in program.out
    assert (
        sum(line.startswith(f"echoing {both} to ('127.0.0.1', ") for line in program.out) == 2
    )
    assert program.out[-1] == "verdict        ok: every byte came back"


def test_the_main_job(port: str) -> None:
    """5,000 connections, 100,000 messages: exit 0, and books that balance."""
    done = client(
        "127.0.0.1", port, "5000", "--size", "1k", "--count", "20", "--json", "-",
        "--connect-timeout", f"{LIMIT:g}s", "--reply-timeout", f"{LIMIT:g}s",
    )  # fmt: skip
    assert done.process.returncode == 0, done.err
    results = written(done)
    assert results["connections"] == {
        "requested": 5000,
        "established": 5000,
        "completed": 5000,
        "failed": 0,
        "peak_open": results["connections"]["peak_open"],
        "reconnects": None,
        "missing": None,
    }
    assert results["messages"] == {
        "due": None,
        "unsent": 0,
        "sent": 100_000,
        "verified": 100_000,
        "mismatched": 0,
        "unanswered": 0,
    }
    assert results["bytes"] == {"sent": 102_400_000, "received": 102_400_000}
    assert results["failures"] == {}
    assert results["verdict"] == "ok"
    for name in ("response_ns", "connect_ns"):
        assert 0 < results[name]["min"] <= results[name]["mean"] <= results[name]["max"]
    # The report is on stderr, when stdout has the JSON.
    assert done.err[-1] == "verdict        ok: every byte came back"


@pytest.mark.parametrize(
    ("handler", "size", "kind", "text"),
    [
        (resets, "1k", "reset", "reset"),
        (sendsExtra, "1k", "extra-bytes", r"received b'\x1b[31mextra' unasked"),
        (alters(700_000), "1M", "mismatch", "message 1, offset 700,000: expected b"),
    ],
)
def test_bad_peers(handler: Handler, size: str, kind: str, text: str, tmp_path: Path) -> None:
    """One clear line on stderr, the kind in the JSON, exit 1."""
    path = tmp_path / "results.json"
    with misbehaving(handler) as port:
        done = client(
            "127.0.0.1", str(port), "3", "--size", size, "--json", str(path), "--quiet"
        )
    assert done.process.returncode == 1
    assert done.out == []
    (line,) = done.err
    assert line.startswith(f"echofactory.client: {kind}: 3 of 3 connections; first connection ")
    assert text in line
    assert "\x1b" not in line
    results = validate(json.loads(path.read_text()))
    assert results["failures"] == {kind: 3}
    assert results["verdict"] == "failed"


def freedPort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as once:
        port: int = once.getsockname()[1]
        return port


def test_a_refused_port() -> None:
    """Nobody listens there."""
    done = client("127.0.0.1", str(freedPort()), "--json", "-", "--quiet")
    assert done.process.returncode == 1
    assert written(done)["failures"] == {"refused": 2}
    (line,) = done.err
    assert "refused: 2 of 2 connections" in line


def test_a_certificate_that_does_not_verify(certificates: Certificates) -> None:
    """TLS that cannot be trusted is a failure of its kind, and nothing is sent."""
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with multiecho("--listen", listen) as (_, port):
        done = client("--connect", f"tls:localhost:{port}", "--json", "-", "--quiet")
    assert done.process.returncode == 1
    results = written(done)
    assert results["failures"] == {"tls": 2}
    assert results["bytes"]["sent"] == 0
    (line,) = done.err
    assert "certificate verify failed" in line


def test_tls(certificates: Certificates) -> None:
    """TLS that can be trusted carries the job."""
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with multiecho("--listen", listen) as (_, port):
        target = f"tls:localhost:{port}:trustRoots={certificates.trust}"
        done = client("--connect", target, "-n", "20", "--size", "100k", "--count", "3")
    assert done.process.returncode == 0, done.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("99999", "PORT: '99999' is not a port number from 1 to 65535"),
        ("0", "PORT: '0' is not a port number from 1 to 65535"),
        ("echo", "PORT: 'echo' is not a port number"),
        ("", "give HOST and PORT, or HOST, PORT and CONNECTIONS"),
        ("7 2 3", "give HOST and PORT, or HOST, PORT and CONNECTIONS"),
        ("7 0", "CONNECTIONS: '0' is not a whole number of 1 or more"),
        ("7 2 -n 2", "--connections: give --connections or CONNECTIONS"),
        ("7 -n 0", "--connections: '0' is not a whole number of 1 or more"),
        ("7 -n -1", "--connections: '-1' is not a whole number of 1 or more"),
        ("7 -n many", "--connections: 'many' is not a whole number"),
        ("7 --connect tcp:a:1", "--connect: give --connect or HOST PORT"),
        ("7 --size 64q", "--size: '64q' is not a size such as 64"),
        ("7 --size 0", "--size: '0' is not 1 byte or more"),
        ("7 --size 9999G", "--size: '9999G' is not 1,099,511,627,776 bytes or less"),
        ("7 --count 0", "--count: '0' is not 1 or more"),
        ("7 --window 0", "--window: '0' is not 1 or more"),
        ("7 --message=", "--message: number 1 is empty"),
        ("7 --message a --size 1", "--message and --size: give one"),
        ("7 --message-file /none", "--message-file: '/none': No such file"),
        ("7 --message-file /dev/zero", "--message-file: '/dev/zero' is not a regular file"),
        ("7 --message-file /", "--message-file: '/' is not a regular file"),
        ("7 --connect-timeout 0", "--connect-timeout: '0' is not more than 0 s"),
        ("7 --reply-timeout soon", "--reply-timeout: 'soon' is not a duration"),
        ("7 --trace all", "--trace: 'all' is not one of none, connections"),
        ("7 --json /none/x", "--json: '/none/x': No such file or directory"),
        ("7 --connect-rate 0", "--connect-rate: '0' is not 0.000001 or more and at most"),
        ("7 --nonsense", "option --nonsense not recognized"),
        ("7 --size", "--size: give its value, SIZE, such as --size 64k"),
        ("7 --quiet=yes", "--quiet: this option has no value"),
    ],
)
def test_bad_usage(refusal: Callable[..., str], arguments: str, line: str) -> None:
    """One line that names the option, the value and what is accepted; exit 2."""
    told = refusal(main, "127.0.0.1", *arguments.split())
    assert told.startswith(f"echofactory.client: {line}")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("a/b 7", "HOST: 'a/b' is not a host's name or address"),
        ("a..b 7", "HOST: 'a..b' is not a host's name or address"),
        ("http://a:7 8", "HOST: 'http://a:7' is a URL: give two words, such as echo.example"),
        ("--connect= --size 5", "--connect: '': '' is not an endpoint type, such as 'tcp'"),
        ("[] 7", "HOST: '[]' is not a host's name or address"),
        ("--connect nonsense:7", "--connect: nonsense:7: "),
        ("--connect tcp:127.0.0.1:99999", "--connect: tcp:127.0.0.1:99999: port 99999"),
        ("--connect tls:localhost:7 --half-close --no-express", "--half-close: over TLS, it "),
        ("--size 64", "nothing to connect to: give HOST PORT or --connect"),
    ],
)
def test_bad_targets(refusal: Callable[..., str], arguments: str, line: str) -> None:
    """The same, of what to connect to."""
    assert refusal(main, *arguments.split()).startswith(f"echofactory.client: {line}")


def test_bad_usage_of_the_process() -> None:
    """The same, with nothing on stdout."""
    done = client("127.0.0.1", "7", "--nonsense")
    assert (done.process.returncode, done.out) == (2, [])
    assert done.err == ["echofactory.client: option --nonsense not recognized (see --help)"]


def test_an_empty_message_file(refusal: Callable[..., str], tmp_path: Path) -> None:
    """An empty message cannot come back."""
    path = tmp_path / "empty"
    path.touch()
    told = refusal(main, "127.0.0.1", "7", "--message-file", str(path))
    assert told.startswith(f"echofactory.client: --message-file: '{path}' is empty")


def test_an_empty_value(refusal: Callable[..., str]) -> None:
    """It is the option's, not the next word's."""
    told = refusal(main, "127.0.0.1", "7", "-n", "")
    assert told.startswith("echofactory.client: --connections: '' is not a whole number")


def test_a_host_without_an_address() -> None:
    """A name that nobody has."""
    done = client("nowhere.invalid", "7", "10", "--json", "-", "--quiet")
    assert done.process.returncode == 1
    assert written(done)["failures"] == {"dns": 10}
    (line,) = done.err
    assert line.startswith(
        "echofactory.client: dns: 10 of 10 connections; first connection 1 to "
    )
    assert "nowhere.invalid" in line


def test_a_peer_that_closes() -> None:
    """It may be early enough to be reset by what we send, or not."""
    with misbehaving(closes) as port:
        done = client("127.0.0.1", str(port), "5", "--json", "-", "--quiet")
    assert done.process.returncode == 1
    results = written(done)
    assert set(results["failures"]) <= {"closed-early", "reset"}
    assert results["connections"]["failed"] == 5


def test_a_full_disk(port: str) -> None:
    """The JSON that cannot be written is one line and exit 1; the report is there."""
    done = client("127.0.0.1", port, "--json", "/dev/full")
    assert done.process.returncode == 1
    assert done.out[-1] == "verdict        ok: every byte came back"
    assert done.err == ["echofactory.client: --json: No space left on device"]


def test_a_reader_that_left(port: str) -> None:
    """A closed pipe costs one line."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*CLIENT, "127.0.0.1", port],
        stdout=writing, stderr=subprocess.PIPE, timeout=LIMIT, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b"echofactory.client: report: Broken pipe\n"


def test_memory_does_not_grow_with_what_is_unanswered() -> None:
    """A peer that takes everything and returns nothing costs the client no memory."""
    taken = 0
    enough = threading.Event()

    def takes(connection: socket.socket) -> None:
        nonlocal taken
        while data := connection.recv(1 << 20):
            taken += len(data)
            if taken > 256 << 20:
                enough.set()

    with misbehaving(takes) as port:
        load = ["127.0.0.1", str(port), "1", "--size", "1G", "--count", "1000"]
        with running([*CLIENT, *load, "--reply-timeout", "1h"]) as program:
            assert enough.wait(LIMIT)
            held = residentBytes(program.process.pid)
            assert program.end(signal.SIGINT) == 130
    assert held < 120 << 20


def test_more_connections_than_descriptors(port: str) -> None:
    """Said before one is opened, with the number that would fit."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))

    done = client("127.0.0.1", "7", "500", preexec_fn=limit)
    assert done.process.returncode == 2
    (line,) = done.err
    assert line.startswith("echofactory.client: --connections: 500 do not fit: this process")
    fit = int(line.split(" for ")[1].split()[0])
    assert 50 < fit < 100

    assert client("127.0.0.1", port, str(fit), preexec_fn=limit).process.returncode == 0


def test_the_soft_limit_is_raised() -> None:
    """Both ends raise the soft descriptor limit to the hard one."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 2000))

    with multiecho("--trace", "none", "127.0.0.1", "0", preexec_fn=limit) as (_, port):
        # So that many are open at once.
        workload = ["--hold", "300ms"]
        done = client("127.0.0.1", str(port), "1000", *workload, preexec_fn=limit)
    assert done.process.returncode == 0, done.err


def test_an_interrupt_prints_what_was_done(port: str) -> None:
    """Ctrl-C: the report, exit 130, the books balanced."""
    arguments = ["127.0.0.1", port, "3", "--size", "64", "--count", "999999999"]
    with running([*CLIENT, *arguments, "--json", "-", "--trace", "connections"]) as program:
        program.waitFor("starting connection 3", program.err)
        assert program.end(signal.SIGINT) == 130
    results = written(program)
    assert results["verdict"] == "interrupted"
    assert results["connections"]["completed"] == results["connections"]["failed"] == 0
    assert program.err[-1] == "verdict        interrupted: 3 connections not done"


def test_message_files_and_half_close(port: str, tmp_path: Path) -> None:
    """A file is one message, whatever its length; --count repeats it."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    done = client(
        "127.0.0.1", port, "4", "--message-file", str(path), "--count", "3",
        "--half-close", "--json", "-", "--quiet",
    )  # fmt: skip
    assert done.process.returncode == 0, done.err
    results = written(done)
    assert results["bytes"]["received"] == 4 * 3 * 256_000
    assert results["workload"] == {
        "kind": "messages", "size": None, "count": 3, "bytes": 768_000, "window": 1,
        "half_close": True, "duration_s": None, "churn": False, "hold_s": 0.0,
        "reconnect": False, "warm_up_s": 0.0,
    }  # fmt: skip


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Help has every option, the exit statuses and three examples."""
    with pytest.raises(SystemExit) as caught:
        ClientOptions().parseOptions(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option in (
        "connect", "connections", "message", "message-file", "size", "count", "window",
        "connect-timeout", "reply-timeout", "half-close", "trace", "quiet", "json", "version",
        "duration", "rate", "find-rate", "churn", "connect-rate", "hold", "bind", "hdr",
        "progress", "interval",
    ):  # fmt: skip
        assert f"--{option}" in text
    assert text.count("  python -m echofactory.client") == 3
    assert "interrupted by SIGINT" in text.replace("\n", " ")
    assert max(map(len, text.splitlines())) <= 88
    done = client("--version")
    assert done.process.returncode == 0
    assert done.out[0].startswith(f"echofactory {__version__} ")
