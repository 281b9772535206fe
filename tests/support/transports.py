"""
Which transports a program has, without a change to the program.
"""

from pathlib import Path

from programs import SUPPORT, environment


class Transports:
    """
    The transports of the TCP connections of programs that run in L{environment}.

    @ivar environment: what a program gets as its environment.
    """

    def __init__(self, folder: Path, *paths: Path) -> None:
        """
        @param folder: holds the record.
        @param paths: of what else the program imports.
        """
        self._record = folder / "transports"
        self.environment = environment(
            TRANSPORTS=str(self._record),
            PYTHONPATH=":".join(map(str, [SUPPORT / "witness", *paths])),
        )

    def onTheLane(self) -> int:
        """Return the number of connections so far, each of which is on the lane."""
        modules = self._record.read_text().splitlines() if self._record.exists() else []
        strange = {each for each in modules if not each.startswith("echofactory.express.")}
        assert not strange, strange
        return len(modules)
