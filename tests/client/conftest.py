"""
What the tests of the client share.
"""

from collections.abc import Iterator

import pytest
from datagrams import echoingOverUDP


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The endpoint of a server for all the runs that are to find nothing wrong."""
    with echoingOverUDP() as (_, port):
        yield f"udp:127.0.0.1:{port}"
