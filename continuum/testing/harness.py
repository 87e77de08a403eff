"""Here lives the harness: workflows run in memory, in the test's own thread, and no time passes while they wait.

It is the real engine on the real memory journal. What is missing are the threads, the network and the waiting.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar, overload

from continuum.client.handles import RunHandle
from continuum.client.instance import Continuum
from continuum.declare.activities import Activity
from continuum.declare.registry import REGISTRY, Registry
from continuum.declare.workflows import Workflow
from continuum.errors import ConfigError, DeclarationError
from continuum.model.names import shown
from continuum.testing.calls import Calls
from continuum.testing.driving import Driver, drive_async
from continuum.testing.engine import Engine, Steps
from continuum.testing.fakes import Fakes
from continuum.testing.faults import Faults
from continuum.testing.runs import TestRun
from continuum.testing.waiting import name_of

__all__ = ["Harness", "Signals", "check_options"]

P = ParamSpec("P")
R = TypeVar("R")

Signals = Mapping[Any, Any] | Iterable[tuple[Any, Any]]
"""Signals to send: values by signal (or by its name), or pairs of both where one comes twice."""

_NO_FAULTS: Final = Faults()


class Harness:
    """A journal in memory, an engine, and a clock that is skipped. For tests with more than one run.

    ``activities`` are fakes by activity (see :mod:`continuum.testing.fakes`); the others run for real, unless
    ``strict``. With ``restart_always`` every run is dropped from memory after each commit, and replayed: a workflow
    that is not deterministic does not get through. ``faults`` adds crashes, lost hints and lost answers. ``now`` is
    where the clock begins, by default at the real present. ``registry`` is where activities and child workflows are
    looked up, by default where the decorators put them.

    Between two calls nothing is open and no run is in memory, as after a restart; as a context manager (``with
    Harness(…) as harness:``) it keeps both until the end of the block.

    Raises ``ConfigError`` on what cannot be.
    """

    def __init__(
        self,
        *,
        activities: Mapping[Any, Any] | None = None,
        strict: bool = False,
        restart_always: bool = False,
        faults: Faults | None = None,
        now: datetime | None = None,
        registry: Registry | None = None,
    ) -> None:
        if not isinstance(faults, Faults | None):
            message = f"faults={faults!r} is not valid: write Faults(…), such as Faults(crash_at='commit.sent:2')."
            raise ConfigError(message)
        known = registry or REGISTRY
        self._engine = Engine(
            registry=known,
            fakes=Fakes(activities, registry=known, strict=strict),
            faults=faults or _NO_FAULTS,
            restart_always=restart_always,
            now=now,
        )
        self._driver = Driver()
        self._entered = 0

    def __repr__(self) -> str:
        return f"<Harness at {self.now:%Y-%m-%d %H:%M:%S} UTC>"

    # ------------------------------------------------------------------ runs

    def run(self, flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a workflow to its end and return its result, as :meth:`start` and :meth:`TestRun.result` do."""
        with self:
            return self.start(flow, *args, **kwargs).result()

    async def run_async(self, flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Do the same in an ``async def`` test; ``async def`` activities run on its loop."""
        try:
            run = self.begin(flow, args, kwargs)
            await drive_async(run.to_the_end())
            return run.outcome()
        finally:
            self._rested()

    def start(self, flow: Workflow[P, R], /, *args: P.args, **kwargs: P.kwargs) -> "TestRun[R]":
        """Start a run, let it come as far as it comes without time passing, and return it.

        Takes the options of :meth:`Continuum.start <continuum.client.calls.Calls.start>`, and raises as that does.
        """
        run = self.begin(flow, args, kwargs)
        self.move()
        return run

    @overload
    def follow(self, handle: RunHandle[R]) -> "TestRun[R]": ...
    @overload
    def follow(self, handle: str) -> "TestRun[Any]": ...
    def follow(self, handle: RunHandle[Any] | str) -> "TestRun[Any]":
        """Return a run that was started otherwise: by ``harness.continuum``, or by another run."""
        known = self.continuum.handle(handle) if isinstance(handle, str) else handle
        return TestRun(self, self._engine, known)

    def begin(
        self, flow: Workflow[..., R], args: tuple[Any, ...], kwargs: Mapping[str, Any], signals: Signals = ()
    ) -> "TestRun[R]":
        """Start a run and send it signals; nothing moves yet. Raises as :meth:`start` does."""
        if not isinstance(flow, Workflow):
            name = getattr(flow, "__qualname__", None) or shown(flow)
            message = f"the harness runs workflows, not {name}: is the @workflow decorator missing?"
            raise DeclarationError(message)
        self._engine.record(flow)
        handle: RunHandle[R] = self.continuum.start(flow, *args, **kwargs)
        for signal, value in signals.items() if isinstance(signals, Mapping) else signals:
            handle.signal(signal, value)
        return TestRun(self, self._engine, handle)

    # ------------------------------------------------------------------ time and work

    @property
    def now(self) -> datetime:
        """The harness' present."""
        return self._engine.clock.now

    @property
    def continuum(self) -> Continuum:
        """A client of the harness' journal. Do not wait with it: nothing moves while you do."""
        return self._engine.continuum

    def move(self) -> None:
        """Do everything that can be done without time passing. Only needed after calls of ``harness.continuum``."""
        self.drive(self._engine.rest())

    def advance(self, span: timedelta) -> None:
        """Let so much time pass, and whatever happens in it happen at its time."""
        self.drive(self._engine.advance(span))

    def later(self, span: timedelta, action: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Call something when so much time has passed: ``harness.later(hour, run.signal, approved, True)``."""
        self._engine.later(span, lambda: action(*args, **kwargs))

    def calls(self, activity: Activity[..., Any] | None = None) -> Calls:
        """Return the calls of an activity, or of all, by any run."""
        return self._engine.log.calls(activity)

    def drive(self, steps: Steps) -> None:
        """Go through steps of the engine, and leave nothing open unless in a ``with`` block."""
        try:
            self._driver.drive(steps)
        finally:
            self._rested()

    def _rested(self) -> None:
        if not self._entered and not self._engine.moving:
            self._engine.close()
            self._driver.close()

    def __enter__(self) -> Self:
        self._entered += 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered -= 1
        self._rested()


def check_options(flow: object, options: Iterable[str]) -> None:
    """Refuse a workflow that has a parameter of an option's name. Raises ``ConfigError``."""
    if not isinstance(flow, Workflow):
        return
    for name in options:
        if name in inspect.signature(flow.function).parameters:
            message = (
                f"workflow {flow.name} has a parameter {name!r}, which the harness takes for itself here: write"
                f" Harness({name}=…).run({name_of(flow.name)}, …)."
            )
            raise ConfigError(message)
