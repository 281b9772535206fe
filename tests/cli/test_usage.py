"""
Mistakes on the command lines: one line that says what to change.
"""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.outputs import requireDistinctFiles
from echofactory.cli.parsers import parseAddress
from echofactory.cli.server import ServerOptions
from echofactory.client.target import Target
from echofactory.net.endpoints import EndpointError, serverEndpoint

Refusal = Callable[..., str]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Returns the line with which a command line is refused."""

    def parse(options: type[ClientOptions] | type[ServerOptions], *arguments: str) -> str:
        with pytest.raises(SystemExit) as refused:
            options().parseOptions(list(arguments))
        assert refused.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line.removesuffix(" (see --help)")

    return parse


@pytest.mark.parametrize(
    ("options", "arguments", "said"),
    [
        (ClientOptions, ["--message-file", "a", "--message-file", "b"], "--message-file"),
        (ClientOptions, ["--json", "a", "--json=b"], "--json"),
        (ClientOptions, ["--plot", "a.svg", "--plot", "a.svg"], "--plot"),
        (ClientOptions, ["--connect", "tcp:a:1", "--connect", "tcp:b:1"], "--connect"),
        (ServerOptions, ["--status", "1", "--status", "2"], "--status"),
    ],
)
def test_a_second_place_does_not_replace_the_first(
    refusal: Refusal,
    options: type[ClientOptions] | type[ServerOptions],
    arguments: list[str],
    said: str,
) -> None:
    """What the first value names would be lost without a word."""
    line = refusal(options, "127.0.0.1", "7", *arguments)
    assert line == f"{options.program}: {said}: given twice"


@pytest.mark.parametrize("output", ["json", "hdr"])
def test_an_output_that_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], output: str
) -> None:
    """It would be lost before it is sent."""
    path = tmp_path / "message"
    path.write_text("hello")
    options = ClientOptions()
    options.parseOptions(
        ["127.0.0.1", "7", "--message-file", str(path), f"--{output}", str(path)]
    )
    with pytest.raises(SystemExit) as refused:
        requireDistinctFiles(options, [str(path)])
    assert refused.value.code == 2
    assert f"--{output}: '{path}' is also an input" in capsys.readouterr().err
    assert path.read_text() == "hello"


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("tls:localhost:7:trustRoots=/nonexistent", "No such file or directory"),
        ("tls:localhost:7:trustRoot=/tmp", "there is no argument 'trustRoot'"),
    ],
)
def test_endpoints_in_plain_words(reactor: Any, endpoint: str, said: str) -> None:
    """Nothing that a user reads shows a tuple, or the name of an exception."""
    with pytest.raises(EndpointError, match=re.escape(said)) as refused:
        Target(reactor, endpoint, 1.0)
    assert "Unlistable" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "localhost:80",
            ". To listen, write tcp:80:interface=localhost; to connect, tcp:localh",
        ),
        ("80", ". To listen, write tcp:80:interface=127.0.0.1; to connect, tcp:127.0.0.1:80"),
        (":80", ". To listen, write tcp:80:interface=127.0.0.1; to connect, tcp:127.0.0.1:80"),
        ("[::1]:80", ". To listen, write tcp:80:interface=[::1]; to connect, tcp:[::1]:80"),
    ],
)
def test_a_host_with_a_port_is_no_endpoint(reactor: Any, text: str, said: str) -> None:
    """The message has the string that is one, and it is accepted."""
    with pytest.raises(EndpointError, match=re.escape(said)) as refused:
        Target(reactor, text, 1.0)
    listening, connecting = str(refused.value).partition("write ")[2].split("; to connect, ")
    serverEndpoint(reactor, listening)
    Target(reactor, connecting, 1.0)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (ClientOptions, ["127.0.0.1:7"]),
        (ClientOptions, ["127.0.0.1:7", "100"]),
        (ServerOptions, ["127.0.0.1:7"]),
    ],
)
def test_a_host_with_a_port_is_one_word_too_few(
    refusal: Refusal, program: type[ClientOptions] | type[ServerOptions], words: list[str]
) -> None:
    """Other programs accept it: the line has both words."""
    line = refusal(program, *words)
    said = "HOST: '127.0.0.1:7' is a host with a port: give two words, 127.0.0.1 7"
    assert said in line


@pytest.mark.parametrize("option", ["--dscp", "--congestion"])
def test_options_of_sockets_that_are_all_of_unix(refusal: Refusal, option: str) -> None:
    """None of them could have the option; with UDP or TCP beside them, one has."""
    words = [option, {"--dscp": "EF"}.get(option, "reno")]
    line = refusal(ServerOptions, *words, "--listen", "unix:/a", "--listen", "express:unix:/b")
    assert line.startswith(f"multiecho: {option}: a UNIX socket has none")
    ServerOptions().parseOptions([*words, "--listen", "unix:/a", "--listen", "tcp:7"])


def test_options_that_may_be_repeated() -> None:
    """They are kept in order; of the others, the last value counts."""
    client = ClientOptions()
    client.parseOptions(["127.0.0.1", "7", "--message", "a", "--message", "b"])
    assert client.workload.messages == (b"a", b"b")
    client = ClientOptions()
    client.parseOptions(["127.0.0.1", "7", "-n", "3", "--connections", "4"])
    assert client.connections == 4
    server = ServerOptions()
    server.parseOptions(["--fault", "delay=1s", "--fault", "drop=0.1", "--listen", "tcp:7"])
    assert server.endpoints == ["tcp:7"]


@pytest.mark.parametrize("name", ["delay", "stall", "corrupt", "throttle"])
def test_a_fault_without_its_value(refusal: Refusal, name: str) -> None:
    """The line has an example, which is accepted."""
    line = refusal(ServerOptions, "--fault", name)
    start = f"multiecho: --fault: {name!r} is a fault without its value: "
    assert line.startswith(start)
    ServerOptions().parseOptions(["--fault", line.removeprefix(start)])


@pytest.mark.parametrize(
    "description", ["reuseport:express:0", "reuseport:ssl:0", "reuseport:"]
)
def test_what_shares_no_port(reactor: Any, description: str) -> None:
    """The prefix takes the arguments of tcp:, and says so."""
    with pytest.raises(
        EndpointError, match=r"is not a port: reuseport: takes the arguments of tcp:"
    ):
        serverEndpoint(reactor, description)


def test_what_does_not_print_is_escaped(refusal: Refusal) -> None:
    """Whatever is quoted of a command line, its mistake is one line."""
    assert refusal(ClientOptions, "--\x1b[2J\r") == (
        r"echofactory.client: option --\x1b[2J\r not recognized"
    )
    with pytest.raises(EndpointError) as refused:
        serverEndpoint(None, "tcp:\x1b[2J")
    assert str(refused.value) == r"tcp:\x1b[2J: '\x1b[2J' is not a number"


def test_the_options_of_a_page_are_escaped() -> None:
    """They are shown beside the results."""
    options = ClientOptions()
    options.parseOptions(["--connect", "unix:/\x1b\u202e"])
    assert ("--connect", r"unix:/\x1b\u202e") in options.effective()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere", "not an IPv4 or IPv6 address"),
        ("192.0.2.1", "not an address of this machine"),
        ("fe80::1", "a link-local address without its interface, such as fe80::1%eth0"),
        ("fe80::1%nosuch", "not an address of this machine"),
    ],
)
def test_source_addresses_that_are_refused(text: str, said: str) -> None:
    """By why."""
    with pytest.raises(ValueError, match=said):
        parseAddress(text)


def test_a_link_local_source_address() -> None:
    """With its interface, it is taken."""
    told = subprocess.run(
        ["ip", "-6", "-o", "addr", "show", "scope", "link"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    if not told:
        pytest.skip("this machine has no link-local address")
    address = f"{told[3].partition('/')[0]}%{told[1]}"
    assert parseAddress(address) == address
