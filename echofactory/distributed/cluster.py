"""
A Dask cluster: where the parts of a run are started. It is one of this machine only, or one to
which this process connects.

Dask works with asyncio. Its client has a loop in a thread of its own, so that any reactor can
use it. What is asked of the loop is answered in the reactor's thread, and nothing that Dask
does can stop the reactor. The thread does not keep the process from ending.

Whoever can reach a scheduler can run code on its workers. So a local cluster has TLS with
certificates that only this process knows, and listens on 127.0.0.1.
"""

import asyncio
import base64
import json
import logging
import pickle
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter_ns
from typing import Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from echofactory._version import __version__
from echofactory.distributed.agent import Agent, facts
from echofactory.distributed.settings import PartSettings
from echofactory.net.descriptors import RESERVE
from echofactory.values.printable import printable

T = TypeVar("T")

READY_S = 30.0
"""Seconds within which each step of the preparation has to be done."""

_CLOSE_S = 3.0
_CLOCK_READS = 8


class ClusterError(Exception):
    """The cluster cannot be used. The text is for the user."""


@dataclass(frozen=True, kw_only=True)
class Local:
    """A cluster of this machine, which lives as long as the run."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """
    A cluster to connect to.
    """

    address: str
    """The address of its scheduler, such as C{tls://10.0.0.1:8786}."""
    ca: str | None = None
    """The PEM file of the authority of its certificates; C{None}: it has no TLS."""
    cert: str | None = None
    """The PEM file of the certificate of this process."""
    key: str | None = None
    """The PEM file of the certificate's key."""


@dataclass(frozen=True)
class Host:
    """
    A worker of the cluster.

    @ivar address: the address of the worker, as the scheduler has it.
    @ivar name: the address or name of its machine.
    @ivar descriptors: descriptors that a process can open there.
    @ivar cores: usable cores.
    @ivar offsetNs: its C{perf_counter_ns} minus that of this process.
    @ivar errorNs: the error of C{offsetNs} does not exceed this.
    """

    address: str
    name: str
    descriptors: int
    cores: int
    offsetNs: int = 0
    errorNs: int = 0

    @property
    def connections(self) -> int:
        """The connections that fit into one part."""
        return max(0, self.descriptors - RESERVE)


class Handle:
    """
    A started part.

    @ivar host: where it is.
    """

    def __init__(self, host: Host, actor: Any, future: Any, name: str) -> None:
        self.host = host
        self.actor = actor
        self.future = future
        self.name = name


def _requireDask() -> None:
    """
    @raise ClusterError: if Dask is not installed.
    """
    try:
        version("distributed")
    except ImportError:
        raise ClusterError(
            "it needs the package distributed: pip install 'echofactory[dask]'"
        ) from None


class Cluster:
    """
    A cluster.

    @ivar hosts: the workers, once L{open} has fired.
    """

    def __init__(self, reactor: IReactorFromThreads, where: Local | Remote) -> None:
        """
        @param reactor: in its thread, all Deferreds fire, and all listeners are called.
        @raise ClusterError: if Dask is not installed.
        """
        _requireDask()
        self.hosts: list[Host] = []
        self._reactor = reactor
        self._where = where
        self._local: Any = None
        self._client: Any = None
        self._topics: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def _asked(self, what: Coroutine[Any, Any, T]) -> "Deferred[T]":
        """Have the loop do something, and return what comes of it."""
        answer: Deferred[T] = Deferred()

        def done(future: Any) -> None:
            with suppress(Exception):
                self._reactor.callFromThread(tell, future)

        def tell(future: Any) -> None:
            if answer.called:
                return
            if future.cancelled():
                answer.errback(Failure(ClusterError("it was cancelled")))
            elif (error := future.exception()) is not None:
                answer.errback(Failure(error))
            else:
                answer.callback(future.result())

        asyncio.run_coroutine_threadsafe(what, self._loop).add_done_callback(done)
        return answer

    # Connecting

    def open(self) -> "Deferred[None]":
        """
        Start or reach the cluster, and ask its workers who they are, unless that is done. The
        result fails with L{ClusterError} if it cannot be used.
        """
        if self.hosts:
            return succeed(None)
        self._thread.start()
        return self._asked(self._opened())

    async def _opened(self) -> None:
        try:
            await asyncio.wait_for(self._connected(), READY_S)
            await asyncio.wait_for(self._examined(), READY_S)
        except TimeoutError:
            raise ClusterError(f"{self._name}: no answer for {READY_S:.0f} s") from None
        except ClusterError:
            raise
        except Exception as error:
            raise ClusterError(f"{self._name}: {_reason(error)}") from None

    @property
    def _name(self) -> str:
        return printable(getattr(self._where, "address", "the local cluster"))

    async def _connected(self) -> None:
        import dask
        from distributed import Client, LocalCluster, Security

        logging.getLogger("distributed").setLevel(logging.CRITICAL)
        logging.getLogger("tornado").setLevel(logging.CRITICAL)
        where = self._where
        if isinstance(where, Remote):
            security = None
            if where.ca is not None:
                security = Security(
                    tls_ca_file=where.ca,
                    tls_client_cert=where.cert,
                    tls_client_key=where.key,
                    require_encryption=True,
                )
            self._client = await Client(where.address, security=security, asynchronous=True)
            return
        # Neither of them has pages.
        dask.config.set(
            {
                "distributed.scheduler.http.routes": [],
                "distributed.worker.http.routes": [],
            }
        )
        security = Security.temporary()
        self._local = await LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=False,
            protocol="tls://",
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            security=security,
            asynchronous=True,
        )
        self._client = await Client(self._local, security=security, asynchronous=True)

    async def _examined(self) -> None:
        """
        Find out what the workers are.

        @raise ClusterError: if there are none, or one does not fit.
        """
        identity = await self._client.scheduler.identity(n_workers=-1)
        workers = identity["workers"]
        if not workers:
            raise ClusterError(f"{self._name}: the scheduler has no workers")
        # Functions of the standard library are there whatever the workers have.
        found = await self._run(version, "echofactory")
        for address, answer in found.items():
            if isinstance(answer, BaseException):
                name = _hostOf(workers, address)
                raise ClusterError(
                    f"the worker on {name} has no echofactory {__version__}: {_reason(answer)}"
                )
        told = await self._run(facts)
        offsets = await self._offsets()
        for address, answer in told.items():
            self.hosts.append(self._host(_hostOf(workers, address), address, answer, offsets))

    def _host(self, name: str, address: str, answer: Any, offsets: dict[str, Any]) -> Host:
        if isinstance(answer, BaseException):
            raise ClusterError(
                f"the worker on {name} has another version than echofactory {__version__}:"
                f" {_reason(answer)}"
            )
        theirs, python, descriptors, cores = answer
        from platform import python_version

        # The random numbers of a schedule are the same only within a version of Python.
        ours = python_version().rpartition(".")[0]
        for what, one, other in (
            ("echofactory", theirs, __version__),
            ("Python", python.rpartition(".")[0], ours),
        ):
            if one != other:
                raise ClusterError(
                    f"the worker on {name} has {what} {printable(str(one))}, and this process"
                    f" has {other}"
                )
        return Host(address, name, descriptors, cores, *offsets[address])

    async def _run(self, function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
        found: dict[str, Any] = await self._client.run(function, *arguments, on_error="return")
        return found

    async def _offsets(self) -> dict[str, tuple[int, int]]:
        """
        Return the difference of each worker's clock, and its error: half of the shortest time
        from asking to the answer.
        """
        best: dict[str, tuple[int, int]] = {}
        for _ in range(_CLOCK_READS):
            before = perf_counter_ns()
            answers = await self._run(perf_counter_ns)
            errorNs = (perf_counter_ns() - before) // 2
            for address, theirs in answers.items():
                if isinstance(theirs, int) and errorNs < best.get(address, (0, 1 << 62))[1]:
                    best[address] = theirs - before - errorNs, errorNs
        if isinstance(self._where, Local):
            # The worker is in this process.
            return dict.fromkeys(best, (0, 0))
        return best

    # Parts

    def listen(self, heard: Callable[[int, dict[str, Any]], None]) -> str:
        """
        Hear what the parts of a run say.

        @param heard: called with the number of a part and its message.
        @return: the topic of the run.
        """
        topic = f"echofactory-{uuid4().hex}"

        def handle(event: tuple[float, Any]) -> None:
            number, line = event[1]
            with suppress(Exception):
                self._reactor.callFromThread(heard, number, json.loads(line))

        def subscribe() -> None:
            self._topics.add(topic)
            self._client.subscribe_topic(topic, handle)

        self._loop.call_soon_threadsafe(subscribe)
        return topic

    def start(
        self, host: Host, number: int, topic: str, settings: PartSettings
    ) -> "Deferred[Handle]":
        """
        Start a part. The result fails with L{ClusterError} if it cannot be started.

        @param number: of the part, from 0.
        """
        return self._asked(self._started(host, number, topic, settings))

    async def _started(
        self, host: Host, number: int, topic: str, settings: PartSettings
    ) -> Handle:
        pickled = base64.b64encode(pickle.dumps(settings)).decode()
        try:
            # Another worker must not start it again if this one dies; and equal agents are not
            # one.
            future = self._client.submit(
                Agent,
                topic,
                number,
                key=f"{topic}-{number}",
                actor=True,
                workers=[host.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            actor = await asyncio.wait_for(future, READY_S)
            name, _ = await asyncio.wait_for(actor.begin(), READY_S)
            handle = Handle(host, actor, future, name)
            await asyncio.wait_for(self._written(handle, {"start": pickled}), READY_S)
        except TimeoutError:
            reason = f"it did not answer for {READY_S:.0f} s"
        except Exception as error:
            reason = _reason(error)
        else:
            return handle
        raise ClusterError(f"part {number + 1} cannot be started on {host.name}: {reason}")

    async def _written(self, handle: Handle, message: dict[str, object]) -> bool:
        line = json.dumps(message).encode() + b"\n"
        written: bool = await handle.actor.write(handle.name, line)
        return written

    def tell(self, handle: Handle, **message: object) -> None:
        """Send a message to a part. A part that is gone does not get it."""

        async def write() -> None:
            with suppress(Exception):
                await self._written(handle, message)

        asyncio.run_coroutine_threadsafe(write(), self._loop)

    def kill(self, handle: Handle) -> None:
        """End the process of a part, if its agent can be reached."""

        async def kill() -> None:
            with suppress(Exception):
                await asyncio.wait_for(handle.actor.kill(), _CLOSE_S)

        asyncio.run_coroutine_threadsafe(kill(), self._loop)

    @property
    def connected(self) -> bool:
        """Whether the scheduler can be reached, as far as is known."""
        return self._client is not None and self._client.status == "running"

    def close(self) -> "Deferred[None]":
        """Leave the cluster. A local one ends."""
        if not self._thread.is_alive():
            return succeed(None)
        return self._asked(self._closed())

    async def _closed(self) -> None:
        with suppress(Exception):
            for topic in self._topics:
                self._client.unsubscribe_topic(topic)
        for each in (self._client, self._local):
            if each is not None:
                with suppress(Exception):
                    await asyncio.wait_for(each.close(), _CLOSE_S)


def _hostOf(workers: dict[str, Any], address: str) -> str:
    """Return what the machine of a worker is called."""
    found = workers.get(address, {}).get("host") or address
    return printable(str(found))


def _reason(error: BaseException) -> str:
    """Return an exception as one printable line."""
    lines = str(error).strip().splitlines()
    return printable(lines[0] if lines else type(error).__name__)


def spread(hosts: Sequence[Host], parts: int) -> list[Host]:
    """Return the host of each part: the hosts take turns."""
    return [hosts[number % len(hosts)] for number in range(parts)]
