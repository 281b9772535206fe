"""
The status of a running service over HTTP: metrics, health, JSON and a live page.

A L{StatusService} serves a L{Status}: L{ServerStatus} of a server, or L{ProbeStatus} of a
monitor. The page draws the L{View} that the L{Status} returns.
"""

from echofactory.status.history import History
from echofactory.status.monitor import ProbeStatus
from echofactory.status.server import ServerStatus
from echofactory.status.view import Chart, Column, Status, Table, Tile, View
from echofactory.status.web import StatusService

__all__ = [
    "Chart",
    "Column",
    "History",
    "ProbeStatus",
    "ServerStatus",
    "Status",
    "StatusService",
    "Table",
    "Tile",
    "View",
]
