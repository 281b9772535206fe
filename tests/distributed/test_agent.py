"""
The agent of a part: its process ends with it, and hears no signal of a terminal.
"""

import gc
import os
import signal
from queue import Queue
from typing import Any

import pytest
from daskcluster import gone
from programs import LIMIT, until

from echofactory.distributed.agent import Agent


class Worker:
    """What an agent needs of its worker."""

    def __init__(self) -> None:
        self.told: Queue[tuple[str, list[Any]]] = Queue()

    def log_event(self, topic: str, message: list[Any]) -> None:
        self.told.put((topic, message))


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    worker = Worker()
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    return worker


def test_the_process_ends_with_its_agent(worker: Worker) -> None:
    """Whoever drops the agent ends the process: the coordinator may be gone."""
    agent = Agent("a topic", "a run", 3)
    _, pid = agent.begin()
    assert not gone(pid)
    del agent
    gc.collect()
    topic, message = worker.told.get(timeout=LIMIT)
    assert (topic, message[:2]) == ("a topic", ["a run", 3])
    # It is killed, or has found the end of its standard input before.
    assert message[2] in ('{"ended": -9}', '{"ended": 1}')
    assert gone(pid)


def test_a_kill_ends_the_process(worker: Worker) -> None:
    agent = Agent("a topic", "a run", 0)
    name, pid = agent.begin()
    os.kill(pid, signal.SIGSTOP)
    agent.kill()
    assert worker.told.get(timeout=LIMIT) == ("a topic", ["a run", 0, '{"ended": -9}'])
    assert not agent.write(name, b"{}\n")


def test_a_signal_of_a_terminal_is_not_for_the_process(worker: Worker) -> None:
    """Not even while it begins."""
    agent = Agent("a topic", "a run", 0)
    name, pid = agent.begin()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid, number)
    # It reads its settings, and these are none.
    assert agent.write(name, b'{"start": ""}\n')
    assert worker.told.get(timeout=LIMIT) == ("a topic", ["a run", 0, '{"ended": 1}'])


def test_another_agent_is_told_nothing(worker: Worker) -> None:
    """A worker that was started again can have another agent of the same part."""
    agent = Agent("a topic", "a run", 0)
    _, pid = agent.begin()
    assert not agent.write("of another one", b'{"start": ""}\n')
    agent.kill()
    until(lambda: gone(pid))
