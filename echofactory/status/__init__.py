"""
What runs, shown: metrics for Prometheus, health for a load balancer, facts as JSON,
and a live page for people, over HTTP.

A L{StatusService} serves a L{Status}: an adapter for one kind of thing that runs,
such as L{ServerStatus}. The page draws whatever L{View} that gives.
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
