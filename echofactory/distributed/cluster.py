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
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, TypeVar
from uuid import uuid4

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from echofactory.distributed.agent import Agent
from echofactory.distributed.hosts import (
    ClusterError,
    Host,
    LocalCluster,
    RemoteCluster,
    examined,
    reasonText,
)
from echofactory.distributed.settings import PartSettings
from echofactory.net.processes import goFirst
from echofactory.values.printable import printable

T = TypeVar("T")

READY_S = 30.0
"""Seconds within which each step of the preparation has to be done."""

_CLOSE_S = 3.0
"""Seconds that closing a client, or a cluster, takes at most."""


class Handle:
    """
    A started part.

    @ivar actor: its agent.
    @ivar name: the name of the agent.
    """

    def __init__(self, actor: Any, future: Any, name: str) -> None:
        """
        @param future: of the agent. The worker drops the agent when nobody has its future.
        """
        self.actor = actor
        self.name = name
        self._future = future


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


def _silence() -> None:
    """
    Have Dask and its network library log nothing: what matters is an exception, or is found by
    silence. Several of their loggers have a level of their own.
    """
    for name in ["distributed", "tornado", *logging.root.manager.loggerDict]:
        if name.partition(".")[0] in ("distributed", "tornado"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)


class Cluster:
    """
    A cluster.

    @ivar hosts: the workers, once L{open} has fired.
    """

    def __init__(
        self, reactor: IReactorFromThreads, where: LocalCluster | RemoteCluster
    ) -> None:
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
        # By the name of a run: what hears its parts, and what hears of workers that are gone.
        self._runs: dict[
            str, tuple[Callable[[int, dict[str, Any]], None], Callable[[Host], None]]
        ] = {}
        self._loop = asyncio.new_event_loop()
        # What Dask's own tasks raise is not for the user.
        self._loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self._turn, daemon=True)

    def _turn(self) -> None:
        # A hundred parts that connect would leave it no time, and would seem to be silent.
        goFirst(threading.get_native_id())
        try:
            self._loop.run_forever()
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left, timeout=_CLOSE_S))
            self._loop.close()

    def _asked(self, what: Coroutine[Any, Any, T]) -> "Deferred[T]":
        """Have the loop do something, and return what comes of it."""
        answer: Deferred[T] = Deferred()

        def done(future: Any) -> None:
            self._fromThread(tell, future)

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
            # Dask's own limit is the first: to cut its attempts leaves warnings.
            await asyncio.wait_for(self._connected(), READY_S + _CLOSE_S)
            self.hosts = await asyncio.wait_for(self._examined(), READY_S)
        except TimeoutError:
            raise ClusterError(f"{self._name}: no answer for {READY_S:.0f} s") from None
        except ClusterError:
            raise
        except Exception as error:
            raise ClusterError(f"{self._name}: {reasonText(error)}") from None

    @property
    def _name(self) -> str:
        return printable(getattr(self._where, "address", "the local cluster"))

    async def _connected(self) -> None:
        import dask
        import distributed
        from distributed import Client, Security

        _silence()
        where = self._where
        if isinstance(where, RemoteCluster):
            security = None
            if where.ca is not None:
                security = Security(
                    tls_ca_file=where.ca,
                    tls_client_cert=where.cert,
                    tls_client_key=where.key,
                    require_encryption=True,
                )
            # It has to be closed even if it cannot connect.
            self._client = Client(
                where.address, security=security, timeout=READY_S, asynchronous=True
            )
            await self._client
            return
        # Neither of them has pages.
        dask.config.set(
            {
                "distributed.scheduler.http.routes": [],
                "distributed.worker.http.routes": [],
            }
        )
        security = Security.temporary()
        self._local = await distributed.LocalCluster(
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
        self._client = Client(self._local, security=security, asynchronous=True)
        await self._client

    async def _examined(self) -> list[Host]:
        # The worker of a local cluster is in this process.
        here = isinstance(self._where, LocalCluster)
        return await examined(self._client, self._name, here)

    # Parts

    def listen(
        self, heard: Callable[[int, dict[str, Any]], None], gone: Callable[[Host], None]
    ) -> str:
        """
        Hear what the parts of a run say.

        @param heard: called with the number of a part and its message.
        @param gone: called when the scheduler has removed a worker.
        @return: the name of the run.
        """
        run = f"echofactory-{uuid4().hex}"
        self._runs[run] = heard, gone

        def subscribe() -> None:
            # The scheduler keeps the last 1,000 events of a topic. It forgets those of a client
            # that has left.
            handlers = {self._client.id: self._hear} | {
                host.address: partial(self._hearOf, host) for host in self.hosts
            }
            for each, handler in handlers.items():
                self._topics.add(each)
                self._client.subscribe_topic(each, handler)

        self._loop.call_soon_threadsafe(subscribe)
        return run

    def _hear(self, event: tuple[float, Any]) -> None:
        # The scheduler publishes events of this client under the same topic.
        match event[1]:
            case [str(run), int(number), str(line)]:
                heard, _ = self._runs[run]
                self._fromThread(heard, number, json.loads(line))

    def _hearOf(self, host: Host, event: tuple[float, Any]) -> None:
        if event[1].get("action") == "remove-worker":
            for _, gone in list(self._runs.values()):
                self._fromThread(gone, host)

    def _fromThread(self, call: Callable[..., None], *arguments: object) -> None:
        # The reactor can have stopped.
        with suppress(Exception):
            self._reactor.callFromThread(call, *arguments)

    def start(
        self, host: Host, number: int, run: str, settings: PartSettings
    ) -> "Deferred[Handle]":
        """
        Start a part. The result fails with L{ClusterError} if it cannot be started.

        @param run: what L{listen} has returned.
        @param number: of the part, from 0.
        """
        return self._asked(self._started(host, number, run, settings))

    async def _started(
        self, host: Host, number: int, run: str, settings: PartSettings
    ) -> Handle:
        pickled = base64.b64encode(pickle.dumps(settings)).decode()
        try:
            # Another worker must not start it again if this one dies; and equal agents are not
            # one.
            future = self._client.submit(
                Agent,
                self._client.id,
                run,
                number,
                key=f"{run}-{number}",
                actor=True,
                workers=[host.address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            actor = await asyncio.wait_for(future, READY_S)
            name, _ = await asyncio.wait_for(actor.begin(), READY_S)
            handle = Handle(actor, future, name)
            await asyncio.wait_for(self._written(handle, {"start": pickled}), READY_S)
        except TimeoutError:
            reason = f"it did not answer for {READY_S:.0f} s"
        except Exception as error:
            reason = reasonText(error)
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

        def stop(result: T) -> T:
            self._loop.call_soon_threadsafe(self._loop.stop)
            return result

        return self._asked(self._closed()).addBoth(stop)

    async def _closed(self) -> None:
        with suppress(Exception):
            for topic in self._topics:
                self._client.unsubscribe_topic(topic)
        for each in (self._client, self._local):
            if each is not None:
                with suppress(Exception):
                    await asyncio.wait_for(each.close(), _CLOSE_S)
