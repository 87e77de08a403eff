"""Here live the doors to the harness for tests of one run: `run`, `run_async` and `start`.

The first overload of each checks the workflow's own arguments, for calls without options. With an option they are
checked when the call is made: Python's types cannot say "the workflow's parameters, and these".
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, ParamSpec, TypeVar, overload

from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.testing.driving import drive_async
from continuum.testing.faults import Faults
from continuum.testing.harness import Harness, Signals, check_options
from continuum.testing.runs import TestRun

__all__ = ["run", "run_async", "start"]

P = ParamSpec("P")
R = TypeVar("R")

_OPTIONS: Final = ("activities", "signals", "strict", "restart_always", "faults", "now", "registry")


@overload
def run(flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, activities: Mapping[Any, Any], **kwargs: Any) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, signals: Signals, **kwargs: Any) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, strict: bool, **kwargs: Any) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, restart_always: bool, **kwargs: Any) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, faults: Faults, **kwargs: Any) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, now: datetime, **kwargs: Any) -> R: ...
@overload
def run(flow: Workflow[..., R], /, *args: Any, registry: Registry, **kwargs: Any) -> R: ...
def run(flow: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a workflow in memory, in this thread, with all waiting skipped, and return its result.

    Beside the workflow's own arguments it takes the options of :class:`Harness` (``activities``, ``strict``,
    ``restart_always``, ``faults``, ``now``, ``registry``), those of ``Continuum.start`` (``attributes``,
    ``idempotency_key``, ``namespace``), and ``signals``: values by signal, which are sent as soon as it has started.

    Raises ``RunFailed`` or ``RunCancelled`` if the workflow ends so, ``RunBlocked`` if it waits for something
    that nobody sends, ``RunStuck`` if the engine has set it aside, ``RunGoesOn`` if there is no end to it,
    ``FakeError``.
    """
    harness, signals = _prepare(flow, kwargs)
    with harness:
        return harness.begin(flow, args, kwargs, signals).result()


@overload
async def run_async(flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, activities: Mapping[Any, Any], **kwargs: Any) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, signals: Signals, **kwargs: Any) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, strict: bool, **kwargs: Any) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, restart_always: bool, **kwargs: Any) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, faults: Faults, **kwargs: Any) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, now: datetime, **kwargs: Any) -> R: ...
@overload
async def run_async(flow: Workflow[..., R], /, *args: Any, registry: Registry, **kwargs: Any) -> R: ...
async def run_async(flow: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Run a workflow as :func:`run` does, in an ``async def`` test.

    Its ``async def`` activities run on the test's loop. Takes the same options, raises the same errors.
    """
    harness, signals = _prepare(flow, kwargs)
    with harness:
        begun: TestRun[Any] = harness.begin(flow, args, kwargs, signals)
        await drive_async(begun.to_the_end())
        return begun.outcome()


@overload
def start(flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, activities: Mapping[Any, Any], **kwargs: Any) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, signals: Signals, **kwargs: Any) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, strict: bool, **kwargs: Any) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, restart_always: bool, **kwargs: Any) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, faults: Faults, **kwargs: Any) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, now: datetime, **kwargs: Any) -> TestRun[R]: ...
@overload
def start(flow: Workflow[..., R], /, *args: Any, registry: Registry, **kwargs: Any) -> TestRun[R]: ...
def start(flow: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Start a run in memory, let it come as far as it comes without time passing, and return it.

    Takes the options of :func:`run`. Between two calls nothing is open, and the run is not in memory; to keep it there,
    write ``with start(…) as run:``.
    """
    harness, signals = _prepare(flow, kwargs)
    begun: TestRun[Any] = harness.begin(flow, args, kwargs, signals)
    harness.move()
    return begun


def _prepare(flow: object, kwargs: dict[str, Any]) -> tuple[Harness, Signals]:
    """Take the options out of the arguments. Raises ``ConfigError``."""
    given = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
    check_options(flow, given)
    signals: Signals = given.pop("signals", ())
    return Harness(**given), signals
