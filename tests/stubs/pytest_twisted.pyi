"""The annotations that pytest-twisted does not have."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")

def ensureDeferred(f: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]: ...
@overload
def async_yield_fixture(f: Callable[P, AsyncIterator[T]]) -> Callable[P, T]: ...
@overload
def async_yield_fixture(
    *, scope: str
) -> Callable[[Callable[P, AsyncIterator[T]]], Callable[P, T]]: ...

reactor_installers: dict[str, Callable[[], None]]

def _install_reactor(reactor_installer: Callable[[], None], reactor_type: type) -> None: ...
