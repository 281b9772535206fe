"""
What the tests share: the reactor, certificates, short paths, and refused command lines.
"""

import gc
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import pytest
import trustme
from hypothesis import HealthCheck, settings
from peers import Certificates, Connect
from programs import multiecho
from pytest_twisted import async_yield_fixture
from reactors import installReactor

# Another reactor than those that pytest-twisted knows (make compat).
installReactor(os.environ.get("ECHOFACTORY_REACTOR"))

# A shell has what it starts in the background ignore SIGINT, and nohup SIGHUP. The programs
# that the tests start would ignore these signals, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# No property depends on how fast the machine is.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the reactor of this process."""
    for item in items:
        if "reactor" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.reactor)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate for localhost, and the authority that signed it."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    pem = folder / "server.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    trust = folder / "trust"
    trust.mkdir()
    authority.cert_pem.write_to_path(str(trust / "authority.pem"))
    return Certificates(pem, trust)


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """The port of an echo server, which the tests of a module share."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, number):
        yield str(number)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory whose path is short enough for a UNIX socket's name."""
    return tmp_path_factory.mktemp("f")


@pytest.fixture
def reactor() -> Any:
    """The reactor that pytest-twisted runs."""
    from twisted.internet import reactor

    return reactor


@async_yield_fixture
async def connect(reactor: Any) -> AsyncIterator[Connect]:
    """Connects raw peers, which do not outlive the test."""
    connecting = Connect(reactor)
    yield connecting
    await connecting.close()


Refusal = Callable[..., str]


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close the files that a program opens in this process, and leaves to its end to close."""
    with ExitStack() as files:

        def opening(*arguments: Any, **options: Any) -> IO[Any]:
            return files.enter_context(open(*arguments, **options))

        monkeypatch.setattr("echofactory.cli.outputs.open", opening, raising=False)
        yield


@pytest.fixture
def refusal(
    outputs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Refusal]:
    """
    Run a program's C{main} in this process with the words of a bad command line, see that
    it ends with exit status 2, and return the one line that it writes on stderr, without
    its reference to the help.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    searches = gc.get_threshold()

    def refused(main: Callable[[], object], *words: str) -> str:
        monkeypatch.setattr("sys.argv", ["program", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        return line.removesuffix(" (see --help)")

    yield refused
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    gc.set_threshold(*searches)
    gc.unfreeze()
