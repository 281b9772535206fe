"""
The reactors on which the tests can run.
"""

from functools import partial
from importlib import import_module

import pytest_twisted


def installReactor(name: str | None) -> None:
    """
    Have pytest-twisted install another reactor than those that it knows.

    @param name: C{express}, C{uvloop}, or the name of one of Twisted's, such as C{poll};
        C{None}: the default.
    """
    if name is not None:
        pytest_twisted.reactor_installers["default"] = partial(
            pytest_twisted._install_reactor, partial(_install, name), object
        )


def _install(name: str) -> None:
    if name == "uvloop":
        import uvloop
        from twisted.internet import asyncioreactor

        asyncioreactor.install(uvloop.new_event_loop())
    elif name == "express":
        import echofactory.express

        echofactory.express.install()
    else:
        import_module(f"twisted.internet.{name}reactor").install()
