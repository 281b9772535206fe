"""
The client: N connections to an echo server, every byte checked.
"""

from echofactory.client.factory import EchoClientFactory, Patience, probe
from echofactory.client.protocol import EchoClient

__all__ = ["EchoClient", "EchoClientFactory", "Patience", "probe"]
