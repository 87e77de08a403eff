"""Here live runs whose code is guarded by the tripwire, without a dispatcher."""

from collections.abc import Callable
from typing import Any

from continuum.declare.registry import Registry
from continuum.errors import ForbiddenCall
from continuum.model.events import Event, EventType
from continuum.replay.execution import Execution
from continuum.runtime.guard import guard_workflows
from tests.replay.lab import RUN, entry_of, started

__all__ = ["begin", "trip", "untripped"]


def begin(function: Callable[..., Any], *args: Any) -> Execution:
    """Begin a guarded run and return its execution, or raise what it raises."""
    guard_workflows(Registry())
    execution = Execution(entry=entry_of(function), run=RUN)
    execution.guard()
    history = [started(*args)]
    try:
        execution.replay(history)
        execution.deliver(Event(0, EventType.RUN_BEGAN, None, None, None, history[-1].at + 1_000))
    except BaseException:
        execution.evict()
        raise
    return execution


def trip(call: Callable[[], Any]) -> ForbiddenCall:
    """Make a call in workflow code and return what it tripped over."""

    async def flow() -> None:
        call()

    try:
        begin(flow)
    except ForbiddenCall as error:
        return error
    raise AssertionError("the call did not trip")


def untripped(call: Callable[[], Any]) -> Any:
    """Make a call in workflow code, which must not trip, and return its result."""
    kept: list[Any] = []

    async def flow() -> None:
        kept.append(call())

    execution = begin(flow)
    if not kept:
        raise AssertionError(execution.decide().events[-1].payload)
    return kept[0]
