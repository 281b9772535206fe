"""
What the contract's tests use: a running service of the implementation under test.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from peers import TRANSPORTS, Certificates, Target, Transport, serving
from pytest_twisted import async_yield_fixture

from echofactory import EchoService


@pytest.fixture(params=TRANSPORTS, ids=str)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


@async_yield_fixture
async def service(
    request: pytest.FixtureRequest,
    reactor: Any,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
) -> AsyncIterator[EchoService]:
    """A service of the implementation under test, on one transport."""
    listen = transport.listen(certificates, folder)
    factory = request.instance.makeFactory(reactor)
    async with serving(reactor, listen, factory=factory) as running:
        yield running


@pytest.fixture
def target(service: EchoService, transport: Transport, certificates: Certificates) -> Target:
    """The client endpoint of the service."""
    return transport.target(certificates, service.addresses[0])
