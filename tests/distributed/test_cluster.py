"""
Runs on a cluster of other processes: a scheduler and its workers. What dies is noticed, and
nothing is run twice.
"""

import json
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from daskcluster import cluster, gone, partsOf, scheduler, withoutPackage, worker
from programs import CLIENT, Program, client, environment, multiecho, running, until
from pytest_twisted import ensureDeferred
from schema import validate

import echofactory
from echofactory.distributed.cluster import Cluster
from echofactory.distributed.hosts import ClusterError, RemoteCluster

pytestmark = pytest.mark.seconds

LOAD = ("--size", "64", "--interval", "200ms", "--rate", "100")
LONG = (*LOAD, "--duration", "1h", "--progress", "always")
SOME = r"messages/s .* p50 +\d"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[Program]]]:
    """A cluster for the runs that leave it as it is."""
    with cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The port of a server."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, port):
        yield str(port)


def allParts(workers: Sequence[Program]) -> list[int]:
    return [part for each in workers for part in partsOf(each.process.pid)]


def requireGone(pids: Sequence[int]) -> None:
    until(lambda: all(map(gone, pids)))


def requireQuiet(program: Program) -> None:
    """See that nothing of Dask is on stderr, and no control character."""
    for line in program.err:
        assert "Traceback" not in line
        assert "distributed." not in line
        assert "tornado" not in line
        assert line.isprintable()


def test_a_run(shared: tuple[str, list[Program]], served: str, tmp_path: Path) -> None:
    """Two parts on each worker. When the run is over, none is left."""
    address, workers = shared
    path = tmp_path / "run.json"
    program = client("127.0.0.1", served, "5", *LOAD, "--duration", "1s",
                     "--dask", address, "--parts", "4", "--json", str(path))  # fmt: skip
    assert program.process.returncode == 0, program.err
    requireQuiet(program)
    written = validate(json.loads(path.read_text()))
    assert written["parts"]["parts"] == 4
    assert written["connections"]["completed"] == 5
    assert written["messages"]["verified"] == 100
    until(lambda: allParts(workers) == [])


def test_the_scheduler_forgets_a_run(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the last 1,000 events of a topic: of each run, if a run has its own topic."""
    from distributed import Client

    # Instead of an hour.
    monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__EVENTS_CLEANUP_DELAY", "1ms")

    def accounts() -> list[object]:
        events: dict[str, Any] = looking.get_events()
        return [each for topic in events.values() for each in topic if "account" in str(each)]

    with cluster(tmp_path, 1) as (address, _), Client(address, set_as_default=False) as looking:
        load = ["127.0.0.1", served, *LOAD, "--duration", "1h", "--progress", "always"]
        command = [*CLIENT, *load, "--dask", address, "--parts", "1"]
        with running(command) as program:
            program.waitFor(SOME, program.err)
            assert accounts()
            assert program.end(signal.SIGINT) == 130
        until(lambda: not accounts())


def test_the_coordinator_is_killed(shared: tuple[str, list[Program]], served: str) -> None:
    """The workers drop its parts."""
    address, workers = shared
    command = [*CLIENT, "127.0.0.1", served, *LONG, "--dask", address]
    with running(command) as program:
        program.waitFor(SOME, program.err)
        parts = allParts(workers)
        program.end(signal.SIGKILL)
    assert len(parts) == 2
    requireGone(parts)


def test_a_worker_is_killed(tmp_path: Path) -> None:
    """
    A line names the part and its host; and a worker that is started again under the same
    address opens no connection.
    """
    path = tmp_path / "run.json"
    with (
        cluster(tmp_path, 1) as (address, (first,)),
        worker(address) as second,
        multiecho("--trace", "connections", "127.0.0.1", "0") as (server, port),
    ):
        command = [*CLIENT, "127.0.0.1", str(port), "4", *LONG, "--dask", address,
                   "--json", str(path)]  # fmt: skip
        with running(command) as program:
            program.waitFor(SOME, program.err)
            parts = allParts([first, second])
            own = str(second.waitFor(r"Start worker at: +\S+:(\d+)", second.err)[1])
            second.end(signal.SIGKILL)
            lost = program.waitFor(r"part \d on 127.0.0.1 is gone", program.err)
            with worker(address, "--worker-port", own) as third:
                # A run beside it uses the new worker.
                other = client("127.0.0.1", str(port), *LOAD, "--duration", "300ms",
                               "--dask", address)  # fmt: skip
                assert other.process.returncode == 0, other.err
                until(lambda: allParts([third]) == [])
                program.process.send_signal(signal.SIGINT)
                assert program.finish() == 130
        requireGone(parts)
        server.end()
    assert lost is not None
    requireQuiet(program)
    assert len([line for line in server.out if "accepted connection" in line]) == 4 + 2
    written = validate(json.loads(path.read_text()))
    assert written["failures"] == {"part-lost": 2}
    assert written["parts"]["lost"] == 1


def test_a_worker_that_stands_still(tmp_path: Path, served: str) -> None:
    """Its part is lost, and ends by itself."""
    with cluster(tmp_path) as (address, workers):
        command = [*CLIENT, "127.0.0.1", served, *LOAD, "--duration", "7s",
                   "--progress", "always", "--dask", address]  # fmt: skip
        with running(command) as program:
            program.waitFor(SOME, program.err)
            parts = allParts(workers)
            os.kill(workers[0].process.pid, signal.SIGSTOP)
            assert program.finish() == 1
        requireGone(parts)
    requireQuiet(program)
    assert [line for line in program.err if "said nothing for 5 seconds" in line]


def test_the_scheduler_is_killed(tmp_path: Path, served: str) -> None:
    """All parts are lost, and end."""
    with ExitStack() as stack:
        main, address = stack.enter_context(scheduler(tmp_path))
        only = stack.enter_context(worker(address))
        command = [*CLIENT, "127.0.0.1", served, *LONG, "--dask", address]
        program = stack.enter_context(running(command))
        program.waitFor(SOME, program.err)
        parts = allParts([only])
        main.end(signal.SIGKILL)
        assert program.finish() == 1
        requireGone(parts)
    requireQuiet(program)
    assert [line for line in program.err if "part 1 on 127.0.0.1 " in line]


# What does not fit


def refused(*arguments: str) -> str:
    """Return the line of a client that cannot use a cluster."""
    program = client(*arguments)
    assert program.process.returncode == 1
    assert program.out == []
    (line,) = program.err
    assert line.isprintable()
    return line


@pytest.mark.parametrize("what", ["nothing", "echo", "silent"])
@ensureDeferred
async def test_what_listens_is_no_scheduler(
    reactor: Any, monkeypatch: pytest.MonkeyPatch, served: str, what: str
) -> None:
    """Nobody listens, an echo server, or a server that does not answer: one line in time."""
    monkeypatch.setattr("echofactory.distributed.cluster.READY_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = served if what == "echo" else silent.getsockname()[1]
        if what == "nothing":
            silent.close()
        cluster = Cluster(reactor, RemoteCluster(address=f"tcp://127.0.0.1:{port}"))
        with pytest.raises(ClusterError, match=rf"^tcp://127.0.0.1:{port}: .+$"):
            await cluster.open()
        await cluster.close()


async def problemOf(reactor: Any, address: str) -> str:
    """Return why a cluster cannot be used."""
    cluster = Cluster(reactor, RemoteCluster(address=address))
    with pytest.raises(ClusterError) as caught:
        await cluster.open()
    await cluster.close()
    return str(caught.value)


@ensureDeferred
async def test_workers_that_do_not_fit(reactor: Any, tmp_path: Path, folder: Path) -> None:
    """There is none, one does not have the package, another one has another version."""
    packages = withoutPackage(folder, "echofactory", "_editable_impl_echofactory")
    bare = [sys.executable, "-S", "-P"]
    other = tmp_path / "other"
    shutil.copytree(Path(echofactory.__file__).parent, other / "echofactory",
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    (other / "echofactory" / "_version.py").write_text('__version__ = "0.0.1"\n')
    metadata = other / "echofactory-0.0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: echofactory\nVersion: 0.0.1\n")
    with scheduler(tmp_path) as (_, address):
        problem = await problemOf(reactor, address)
        assert problem == f"{address}: the scheduler has no workers"
        with worker(address, python=bare, changes={"PYTHONPATH": packages}):
            problem = await problemOf(reactor, address)
            assert problem.startswith("the worker on 127.0.0.1 has no echofactory ")
        path = f"{other}{os.pathsep}{packages}"
        with worker(address, python=bare, changes={"PYTHONPATH": path}):
            problem = await problemOf(reactor, address)
            assert problem.startswith("the worker on 127.0.0.1 has echofactory 0.0.1, and this")


# TLS


def pem(authority: trustme.CA, folder: Path) -> list[str]:
    """Make a certificate, and return the files of the authority, of it, and of its key."""
    folder.mkdir()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    paths = [folder / name for name in ("ca.pem", "cert.pem", "key.pem")]
    authority.cert_pem.write_to_path(str(paths[0]))
    paths[1].write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(paths[2]))
    return [str(path) for path in paths]


def optionsOf(files: Sequence[str], *names: str) -> list[str]:
    return [word for pair in zip(names, files, strict=True) for word in pair]


def test_TLS_between_the_parts(tmp_path: Path, served: str) -> None:
    """With certificates of one authority. Another authority's are refused in one line."""
    files = pem(trustme.CA(), tmp_path / "right")
    others = pem(trustme.CA(), tmp_path / "wrong")
    theirs = optionsOf(files, "--tls-ca-file", "--tls-cert", "--tls-key")
    names = ("--dask-ca", "--dask-cert", "--dask-key")
    with (
        scheduler(tmp_path, "--protocol", "tls", *theirs) as (_, address),
        worker(address, "--protocol", "tls", *theirs),
    ):
        assert address.startswith("tls://")
        load = ("127.0.0.1", served, *LOAD, "--duration", "300ms", "--dask", address)
        program = client(*load, *optionsOf(files, *names))
        assert program.process.returncode == 0, program.err
        line = refused(*load, *optionsOf(others, *names))
    assert line.startswith(f"echofactory.client: --dask: {address}: ")


# Bytes of others


@contextmanager
def swapping() -> Iterator[int]:
    """A server that gives each of two connections what the other one has sent."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        command = [sys.executable, "-c", _SWAPPING]
        with running(
            command,
            pass_fds=[listening.fileno()],
            env=environment(LISTENING=str(listening.fileno())),
        ):
            yield listening.getsockname()[1]


_SWAPPING = """
import os, socket
listening = socket.socket(fileno=int(os.environ["LISTENING"]))
pair = [listening.accept()[0] for _ in range(2)]
one, other = (each.recv(64, socket.MSG_WAITALL) for each in pair)
pair[0].sendall(other)
pair[1].sendall(one)
for each in pair:
    try:
        while each.recv(1 << 16):
            pass
    except OSError:
        pass
"""


def test_bytes_of_another_part(shared: tuple[str, list[Program]], tmp_path: Path) -> None:
    """No message is the same in two parts."""
    path = tmp_path / "run.json"
    with swapping() as port:
        program = client("127.0.0.1", str(port), "--size", "64",
                         "--dask", shared[0], "--json", str(path))  # fmt: skip
    assert program.process.returncode == 1
    written = validate(json.loads(path.read_text()))
    assert written["failures"] == {"mismatch": 2}
    assert written["parts"] == written["parts"] | {"parts": 2, "lost": 0}
