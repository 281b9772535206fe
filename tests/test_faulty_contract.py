"""
What every transport of the echo must do, done by a faulty one that is only late.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from peers import TRANSPORTS, Certificates, Transport, serving
from pytest_twisted import async_yield_fixture
from test_echo_contract import (  # noqa: F401
    target,
    test_a_close_while_paused,
    test_a_stop_cuts_what_does_not_end,
    test_counts,
    test_every_byte_comes_back_in_order,
    test_half_close_at_once,
    test_half_close_loses_nothing,
    test_one_stalled_reader_holds_up_nobody,
    test_small_pieces,
    test_the_probe_half_closes,
    test_the_probe_verifies,
)

from echofactory import EchoService, Faults, FaultyEchoFactory

FAULTS = Faults(delay=0.004, jitter=0.004)


@pytest.fixture(params=TRANSPORTS, ids=str)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@async_yield_fixture
async def service(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> AsyncIterator[EchoService]:
    listen = transport.listen(certificates, folder)
    factory = FaultyEchoFactory(reactor, FAULTS)
    async with serving(reactor, listen, factory=factory) as running:
        yield running
