"""
UNIX sockets without a file.
"""

import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from peers import serving
from pytest_twisted import ensureDeferred

from echofactory import Workload, probe
from echofactory.client.target import Target
from echofactory.express.addresstext import addressText
from echofactory.net.endpoints import EndpointError, ListenError, serverEndpoint


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"echofactory-{uuid4().hex}"


@ensureDeferred
@pytest.mark.parametrize("listen", ["", "express:"])
@pytest.mark.parametrize("connect", ["unix:@", "express:unix:@", "unix:path=@"])
async def test_server_and_client(
    reactor: Any, name: str, listen: str, connect: str, folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """They meet at the name, and no file is made."""
    monkeypatch.chdir(folder)
    async with serving(reactor, f"{listen}unix:@{name}") as service:
        assert addressText(service.addresses[0]) == f"unix:@{name}"
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(f"\0{name}")
        results = await probe(reactor, f"{connect}{name}", Workload(), 3)
        assert list(folder.iterdir()) == []
    assert results.verdict == "ok", results.examples
    assert results.target == f"{connect}{name}"
    # The name is free again.
    async with serving(reactor, f"{listen}unix:@{name}"):
        pass


# Twisted leaves the socket that it could not bind to be closed by its destructor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@ensureDeferred
async def test_a_name_that_is_taken(reactor: Any, name: str) -> None:
    """The error names the endpoint, as it was written."""
    async with serving(reactor, f"unix:@{name}"):
        with pytest.raises(ListenError, match=rf"unix:@{name}: .*in use"):
            async with serving(reactor, f"unix:@{name}"):
                pass


@ensureDeferred
async def test_nobody_listens(reactor: Any, name: str) -> None:
    """The connection is refused."""
    results = await probe(reactor, f"unix:@{name}", Workload(), 1)
    assert results.failures == {"refused": 1}


@pytest.mark.parametrize("given", ["mode=600", "600", "lockfile=0"])
def test_arguments_of_a_file(reactor: Any, given: str) -> None:
    """They are refused: there is no file."""
    with pytest.raises(EndpointError, match="an abstract socket has no file: it takes only"):
        serverEndpoint(reactor, f"unix:@a:{given}")


@pytest.mark.parametrize("size", [0, 108])
def test_the_length_of_a_name(reactor: Any, size: int) -> None:
    """Both programs say what fits."""
    text = f"unix:@{'x' * size}"
    wanted = f"the name of an abstract socket has 1 to 107 bytes, not {size}"
    with pytest.raises(EndpointError, match=wanted):
        serverEndpoint(reactor, text)
    with pytest.raises(EndpointError, match=wanted):
        Target(reactor, text, 1.0)


@ensureDeferred
async def test_a_file_with_that_name(
    reactor: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is reached with its directory."""
    monkeypatch.chdir(folder)
    async with serving(reactor, "unix:./@a"):
        assert (folder / "@a").is_socket()
        results = await probe(reactor, "unix:./@a", Workload(), 1)
    assert results.verdict == "ok", results.examples
    assert not (folder / "@a").exists()


def test_a_lock_file(reactor: Any) -> None:
    """The client refuses it too."""
    with pytest.raises(EndpointError, match="an abstract socket has no lock file"):
        Target(reactor, "unix:@a:lockfile=1", 1.0)
