"""Here live the three places where asyncio's own order is not reproducible, made so for workflows.

Tasks and futures with numbered hashes (`primitives`) put most of asyncio in order. What is left:

- `asyncio.as_completed` starts bare coroutines in the order of a set of coroutines;
- `asyncio.all_tasks` goes through the tasks of the whole process;
- `asyncio.gather` returns a future of a class of asyncio's own, which hashes by address.

The two functions are dispatched by replacing their code once, at import: where a workflow's loop is running they call
ours, everywhere else a copy of the original. Replacing the name in the module would miss everybody who wrote
``from asyncio import as_completed`` before this import; a function object is shared by all of them.
"""

import asyncio
import inspect
from asyncio import events as _events
from asyncio import tasks as _tasks
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from types import CodeType, FunctionType
from typing import Any, Final

from continuum.replay.loop import DeterministicLoop

__all__ = ["OrderedCompletions", "install"]

_PREFIX: Final = "_continuum_"
_SERIAL: Final = "_continuum_serial"


class OrderedCompletions(AsyncIterator[Any], Iterator[Any]):
    """What `asyncio.as_completed` returns in a workflow: as Python 3.13 has it, on every Python.

    Iterated with ``for`` it gives coroutines, each for the result of the next to complete; with ``async for`` the
    futures themselves. Equal awaitables count once. Awaitables start in the order given.
    """

    def __init__(self, awaitables: Iterable[Any], timeout: float | None) -> None:
        self._done: asyncio.Queue[asyncio.Future[Any] | None] = asyncio.Queue()
        self._timer: asyncio.TimerHandle | None = None
        loop = asyncio.get_running_loop()
        todo = dict.fromkeys(asyncio.ensure_future(each, loop=loop) for each in dict.fromkeys(awaitables))
        for future in todo:
            future.add_done_callback(self._completed)
        if todo and timeout is not None:
            self._timer = loop.call_later(timeout, self._timed_out)
        self._todo = todo
        self._left = len(todo)

    def __aiter__(self) -> "OrderedCompletions":
        return self

    def __iter__(self) -> "OrderedCompletions":
        return self

    async def __anext__(self) -> asyncio.Future[Any]:
        if not self._left:
            raise StopAsyncIteration
        self._left -= 1
        return await self._next()

    def __next__(self) -> Coroutine[Any, Any, Any]:
        if not self._left:
            raise StopIteration
        self._left -= 1
        return self._next_result()

    def _timed_out(self) -> None:
        for future in self._todo:
            future.remove_done_callback(self._completed)
            self._done.put_nowait(None)
        self._todo.clear()

    def _completed(self, future: asyncio.Future[Any]) -> None:
        if not self._todo:
            # The timeout was first.
            return
        del self._todo[future]
        self._done.put_nowait(future)
        if not self._todo and self._timer is not None:
            self._timer.cancel()

    async def _next(self) -> asyncio.Future[Any]:
        future = await self._done.get()
        if future is None:
            raise TimeoutError
        return future

    async def _next_result(self) -> Any:
        return (await self._next()).result()


def install() -> None:
    """Dispatch the functions. Done once; a second call does nothing."""
    _dispatch(_tasks.as_completed, _as_completed.__code__, _choose_as_completed)
    _dispatch(_tasks.all_tasks, _all_tasks.__code__, _choose_all_tasks)
    _tasks._GatheringFuture.__hash__ = _gathering_hash  # type: ignore[attr-defined] # noqa: SLF001


def _dispatch(function: Any, code: CodeType, choose: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    name = _PREFIX + function.__name__
    if hasattr(_tasks, name):
        return
    original = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    original.__kwdefaults__ = function.__kwdefaults__
    # The replacing code finds our function among the globals of the function it now belongs to.
    setattr(_tasks, name, choose(original))
    function.__code__ = code


def _as_completed(fs, *, timeout=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - becomes asyncio's code
    return _continuum_as_completed(fs, timeout=timeout)  # type: ignore[name-defined] # noqa: F821


def _all_tasks(loop=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - becomes asyncio's code
    return _continuum_all_tasks(loop)  # type: ignore[name-defined] # noqa: F821


def _choose_as_completed(original: Callable[..., Any]) -> Callable[..., Any]:
    def as_completed(fs: Any, *, timeout: float | None) -> Any:
        if type(_events._get_running_loop()) is not DeterministicLoop:  # noqa: SLF001
            return original(fs, timeout=timeout)
        if inspect.isawaitable(fs):
            message = f"expects an iterable of awaitables, not {type(fs).__name__}"
            raise TypeError(message)
        return OrderedCompletions(fs, timeout)

    return as_completed


def _choose_all_tasks(original: Callable[..., Any]) -> Callable[..., Any]:
    def all_tasks(loop: asyncio.AbstractEventLoop | None) -> set[asyncio.Task[Any]]:
        asked = _events._get_running_loop() if loop is None else loop  # noqa: SLF001
        if isinstance(asked, DeterministicLoop):
            return asked.all_tasks()
        return original(loop)  # type: ignore[no-any-return]

    return all_tasks


def _gathering_hash(future: Any) -> int:
    loop = future._loop  # noqa: SLF001
    if type(loop) is not DeterministicLoop:
        return object.__hash__(future)
    if not hasattr(future, _SERIAL):
        # Numbered when first asked: by the program, so at the same moment on every replay.
        setattr(future, _SERIAL, loop.next_serial())
    return getattr(future, _SERIAL)  # type: ignore[no-any-return]
