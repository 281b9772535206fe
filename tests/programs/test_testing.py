"""
The fixture for other people's tests, used as they would use it: by a pytest of its
own, in a directory of its own.
"""

import json
import re
import socket
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from peers import Certificates
from programs import LIMIT, python, running

pytest_plugins = ["pytester"]

CONFTEST = 'pytest_plugins = ["echofactory.testing"]'

CLIENT = """
    import socket, ssl, time
    import pytest

    def ask(server, data, context=None):
        with socket.create_connection(server, timeout=120) as connection:
            if context is not None:
                connection = context.wrap_socket(connection, server_hostname="localhost")
            connection.sendall(data)
            received = b""
            while len(received) < len(data) and (more := connection.recv(65536)):
                received += more
            connection.close()
            return received
"""


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's pytest has none of the plugins that these tests take."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def users(pytester: pytest.Pytester, tests: str) -> pytest.RunResult:
    """Run somebody's tests."""
    pytester.makeconftest(CONFTEST)
    written = pytester.makepyfile(CLIENT)
    written.write_text(f"{written.read_text()}\n\n{tests}")
    return pytester.runpytest_subprocess()


def ended(folder: Path) -> bool:
    """Tell whether the servers that the tests wrote down are gone."""
    ports = json.loads((folder / "ports.json").read_text())
    listening = [
        int(line.split()[1].rpartition(":")[2], 16)
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    return bool(ports) and not set(ports) & set(listening)


def test_plain_and_several(pytester: pytest.Pytester) -> None:
    """Each call is a server of its own; all are gone after the test, and nothing is left."""
    tests = """
import json

def test_plain(echoServer):
    one, other = echoServer(), echoServer()
    assert one.host == "127.0.0.1"
    assert one.port != other.port
    assert ask(one, b"hello") == b"hello"
    assert ask(other, bytes(1_000_000)) == bytes(1_000_000)
    with open("ports.json", "w") as file:
        json.dump([one.port, other.port], file)
"""
    users(pytester, tests).assert_outcomes(passed=1)
    assert ended(pytester.path)
    assert not (pytester.path / "twistd.pid").exists()


def test_ended_after_a_failure(pytester: pytest.Pytester) -> None:
    """A test that fails, with a connection open, ends its servers too."""
    tests = """
import json

def test_failing(echoServer):
    server = echoServer()
    with open("ports.json", "w") as file:
        json.dump([server.port], file)
    globals()["kept"] = socket.create_connection(server, timeout=120)
    assert False, "as it should"
"""
    result = users(pytester, tests)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*as it should*"])
    assert ended(pytester.path)


def test_ended_with_a_killed_pytest(pytester: pytest.Pytester) -> None:
    """Who cannot end them any more takes them along."""
    pytester.makeconftest(CONFTEST)
    tests = pytester.makepyfile("""
        import signal

        def test_killed(echoServer):
            print("port", echoServer().port, flush=True)
            signal.pause()
    """)
    command = [sys.executable, "-m", "pytest", "-s", str(tests)]
    with running(command, cwd=pytester.path) as program:
        port = int(program.waitFor(r"port (\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
            program.process.kill()
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
        # It has stopped listening before it cut that connection.
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), LIMIT)


def test_a_module_in_the_way(pytester: pytest.Pytester) -> None:
    """What lies in the working directory is not taken for a part of the server."""
    tests = """
def test_plain(echoServer, tmp_path, monkeypatch):
    for name in ("constantly.py", "twisted.py", "random.py"):
        (tmp_path / name).write_text("raise ImportError('not meant')")
    monkeypatch.chdir(tmp_path)
    assert ask(echoServer(), b"hello") == b"hello"
"""
    users(pytester, tests).assert_outcomes(passed=1)


def test_tls(pytester: pytest.Pytester, certificates: Certificates) -> None:
    """It takes a certificate and its key, and a client that trusts it is served."""
    tests = f"""
def test_tls(echoServer):
    server = echoServer(pem={str(certificates.pem)!r})
    context = ssl.create_default_context(cafile={str(certificates.trust / "authority.pem")!r})
    assert ask(server, b"hello", context) == b"hello"
"""
    users(pytester, tests).assert_outcomes(passed=1)


def test_faulty(pytester: pytest.Pytester) -> None:
    """It takes faults and a seed, with which they repeat; a bad one is told by name."""
    tests = """
def test_faulty(echoServer):
    server = echoServer(faults=["dribble=100", "corrupt=0.01"], seed=5)
    answer = ask(server, bytes(1000))
    assert len(answer) == 1000
    assert answer != bytes(1000)
    again = echoServer(faults=["corrupt=0.01"], seed=5)
    assert ask(again, bytes(1000)) == answer

def test_without_faults(echoServer):
    assert ask(echoServer(seed=5), bytes(1000)) == bytes(1000)

def test_late(echoServer):
    server = echoServer(faults="delay=200ms,dribble=100")
    began = time.monotonic()
    assert ask(server, b"hello") == b"hello"
    assert time.monotonic() - began >= 0.199

def test_none(echoServer):
    with pytest.raises(Exception, match="'delay=soon' is not a duration") as caught:
        echoServer(faults=["delay=soon"])
    assert "twistd multiecho ended" in str(caught.value)
"""
    users(pytester, tests).assert_outcomes(passed=4)


def test_found_without_being_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed echofactory brings its fixture along; to name the plugin too is harmless."""
    monkeypatch.delenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    pytester.makepyfile("""
        import sys

        def test_it(pytestconfig, echoServer):
            assert pytestconfig.pluginmanager.has_plugin("echofactory.testing")
            assert "twisted.internet.reactor" not in sys.modules
            assert echoServer().port
    """)
    # The other plugins of this environment are not somebody's. One of them loads a reactor.
    others = ("twisted", "xdist", "timeout", "hypothesispytest", "anyio", "trio")
    without = [f"-pno:{name}" for name in others]
    pytester.runpytest_subprocess(*without).assert_outcomes(passed=1)
    pytester.runpytest_subprocess(*without, "-pechofactory.testing").assert_outcomes(passed=1)
    pytester.makeconftest(CONFTEST)
    pytester.runpytest_subprocess(*without).assert_outcomes(passed=1)


def test_without_pytest() -> None:
    """Nothing else needs it; the plugin says what it needs."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "import echofactory, echofactory.cli.twistd\n"
        "import echofactory.testing\n"
    )
    done = python(code)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"ImportError: install pytest to use echofactory\.testing", last)
