"""
Makes test cases of Twisted's own tests for a reactor that Twisted does not know.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.internet.test.reactormixins import ReactorBuilder
from twisted.trial.unittest import SynchronousTestCase


def builders(modules: Iterable[Any]) -> list[type[ReactorBuilder]]:
    """Return the builders of which Twisted itself makes test cases for epoll."""
    return [
        value
        for module in modules
        for name, value in vars(module).items()
        if f"{name}_EPollReactorTests" in vars(module)
    ]


def case(
    name: str,
    bases: tuple[type[ReactorBuilder], ...],
    reactor: Callable[..., Any],
    exceptions: Mapping[str, str],
) -> type[SynchronousTestCase]:
    """
    Return a test case of builders.

    @param name: the module and the name of the test case.
    @param reactor: makes the reactor.
    @param exceptions: the tests that are skipped, each with its reason.
    """
    module, _, own = name.rpartition(".")
    attributes: dict[str, Any] = {"reactorFactory": reactor, "__module__": module}
    for method, reason in exceptions.items():
        if any(hasattr(base, method) for base in bases):
            attributes[method] = _skipping(reason)
    return type(own, (*bases, SynchronousTestCase), attributes)


def _skipping(reason: str) -> Any:
    def test(self: SynchronousTestCase) -> None:
        """Left out, and trial reports the reason."""

    test.skip = reason  # type: ignore[attr-defined]
    return test
