"""Here lives the making of async twins: one definition, called on a worker thread, with its types kept."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, overload

__all__ = ["Twin", "Twinned"]

P = ParamSpec("P")
T = TypeVar("T")


class Twinned(Protocol):
    """An object whose methods are twins of those of ``_sync``."""

    @property
    def _sync(self) -> Any: ...


class Twin(Generic[P, T]):
    """``get = Twin(Calls.get)`` makes ``await twinned.get(...)`` call ``get`` on a thread, so that the loop goes on.

    A cancelled ``await`` returns at once; the call itself runs to its end on its thread.
    """

    def __init__(self, function: Callable[Concatenate[Any, P], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__
        self.__wrapped__ = function  # help() and signature() show the original's

    @overload
    def __get__(self, twinned: None, owner: type) -> Self: ...
    @overload
    def __get__(self, twinned: Twinned, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, twinned: Twinned | None, owner: type) -> Self | Callable[P, Coroutine[Any, Any, T]]:
        if twinned is None:
            return self
        sync = twinned._sync  # noqa: SLF001 - what Twinned promises
        function = self._function

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return await asyncio.to_thread(function, sync, *args, **kwargs)

        return call
