"""
Endpoints that need a peer or a parent process of their own kind.
"""

from pathlib import Path
from typing import Any

import pytest
from peers import Certificates, portOf, serving
from pytest_twisted import ensureDeferred

from echofactory import EchoFactory, Trace, Workload, probe

pytestmark = [pytest.mark.reactors, pytest.mark.oldest]


@ensureDeferred
async def test_tls_directory(reactor: Any, certificates: Certificates, folder: Path) -> None:
    """tls: takes its certificate from a directory, by the name that is asked for."""
    (folder / "localhost.pem").write_bytes(certificates.pem.read_bytes())
    factory = EchoFactory(trace=Trace.NONE)
    listen = f"tls:{folder}:0:interface=127.0.0.1"
    async with serving(reactor, listen, factory=factory) as service:
        port = portOf(service.addresses[0])
        target = f"tls:localhost:{port}:trustRoots={certificates.trust}"
        results = await probe(reactor, target, Workload(size=100_000, count=3), 5)
    assert results.verdict == "ok", results.examples


@ensureDeferred
async def test_ssl_client_strings(reactor: Any, certificates: Certificates) -> None:
    """ssl: is the older client endpoint; its host is looked up once as well."""
    pem = certificates.pem
    async with serving(
        reactor, f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    ) as service:
        port = portOf(service.addresses[0])
        target = f"ssl:localhost:{port}:hostname=localhost:caCertsDir={certificates.trust}"
        results = await probe(reactor, target, Workload(), 5)
    assert results.verdict == "ok", results.examples
