"""
Our client without receive lag: what sampling replies costs.
"""

from typing import Any

from echofactory.cli.client import main
from echofactory.client.receivelag import ReplySampler


def _connected(sampler: ReplySampler, transport: Any) -> None:
    sampler.nextAt = 1 << 62


if __name__ == "__main__":
    ReplySampler.connected = _connected  # type: ignore[method-assign]
    main()
