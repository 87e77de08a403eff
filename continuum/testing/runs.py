"""Here lives a run in the harness, as a test holds it."""

from collections.abc import Callable
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, ClassVar, Final, Generic, Protocol, Self, TypeVar, overload

from continuum.client.handles import RunHandle
from continuum.client.instance import Continuum
from continuum.client.results import read_outcome
from continuum.declare.activities import Activity
from continuum.declare.signals import Question, Signal
from continuum.errors import RunFailed
from continuum.journal.protocol import PostResult
from continuum.model.events import Event
from continuum.model.histories import RecordedRun
from continuum.model.ids import RunId
from continuum.model.runs import Run, RunState
from continuum.replay.effects.child import SignalLike
from continuum.testing.calls import Calls
from continuum.testing.engine import Engine, Steps
from continuum.testing.failures import RunBlocked, RunStuck
from continuum.testing.histories import dump_history
from continuum.testing.waiting import name_of, waits_of

__all__ = ["Stage", "TestRun"]

R = TypeVar("R")
T = TypeVar("T")
A = TypeVar("A")


class Stage(Protocol):
    """What a run needs of the harness it is in."""

    @property
    def now(self) -> datetime:
        """The present."""

    @property
    def continuum(self) -> Continuum:
        """A client of the journal."""

    def move(self) -> None:
        """Do everything that can be done without time passing."""

    def advance(self, span: timedelta) -> None:
        """Let time pass."""

    def later(self, span: timedelta, action: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Call something when so much time has passed."""

    def drive(self, steps: Steps) -> None:
        """Go through steps of the engine."""

    def follow(self, handle: str) -> "TestRun[Any]":
        """Return another run."""

    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class TestRun(Generic[R]):
    """One run in the harness. Whatever is called, the run then comes as far as it comes without time passing.

    :ivar handle: the handle a client would have. Do not wait with it.
    """

    __test__: ClassVar = False  # not a class of tests

    def __init__(self, harness: Stage, engine: Engine, handle: RunHandle[R]) -> None:
        self._harness = harness
        self._engine = engine
        self.handle: Final = handle
        self._began = harness.now

    def __repr__(self) -> str:
        return f"<{self.state} run {self.id} of {name_of(self.info.workflow)}>"

    def __enter__(self) -> Self:
        self._harness.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._harness.__exit__(kind, error, trace)

    # ------------------------------------------------------------------ looking

    @property
    def id(self) -> RunId:
        """The id it was started under."""
        return self.handle.id

    @property
    def info(self) -> Run:
        """What a client sees of it: of a chain the last run."""
        return self.handle.refresh()

    @property
    def state(self) -> RunState:
        """Where it stands. Compares with a text: ``run.state == "suspended"``."""
        return self.info.state

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.info.ended

    @property
    def history(self) -> list[Event]:
        """Its events: of a chain those of the last run."""
        return self._harness.continuum.history(self.info.id)

    @property
    def elapsed(self) -> timedelta:
        """How much of the harness' time has passed since it was started."""
        return self._harness.now - self._began

    @property
    def waits(self) -> tuple[str, ...]:
        """What it waits for, in sentences; empty if it has ended."""
        return tuple(waits_of(self._harness.continuum, self.info))

    @property
    def children(self) -> "list[TestRun[Any]]":
        """The runs it has started, in order."""
        found = self._harness.continuum.journal.runs.descendants(self.id, limit=10_000)
        age = {run.id: number for number, run in enumerate(reversed(self._chain()))}
        mine = [(age[run.parent_id], run.parent_command or 0, run.chain_id) for run in found if run.parent_id in age]
        return [self._harness.follow(chain_id) for _, _, chain_id in sorted(mine)]

    def calls(self, activity: Activity[..., Any] | None = None) -> Calls:
        """Return the calls of an activity, or of all, by this run and the runs below it."""
        runs = {run.id for run in self._chain()}
        for child in self._harness.continuum.journal.runs.descendants(self.id, limit=100_000):
            runs.update(run.id for run in self._harness.follow(child.chain_id)._chain())  # noqa: SLF001 - one of us
        return self._engine.log.calls(activity, runs=frozenset(runs))

    def progress(self) -> dict[str, Any]:
        """Return what it has published."""
        return self.handle.progress()

    def record(self) -> RecordedRun:
        """Return its history as :func:`continuum.testing.dump_history` keeps it."""
        return dump_history(self._harness.continuum.handle(self.info.id))

    def _chain(self) -> list[Run]:
        runs: list[Run] = []
        run: Run | None = self.info
        while run is not None:
            runs.append(run)
            run = None if run.continued_from is None else self._harness.continuum.find(run.continued_from)
        return runs

    # ------------------------------------------------------------------ moving

    def result(self) -> R:
        """Skip time until the run has ended, and return what the workflow returned.

        Raises ``RunFailed`` or ``RunCancelled`` as ``RunHandle.result`` does; ``RunBlocked`` if it waits for what only
        the test can send, ``RunStuck`` if the engine has set it aside, ``RunGoesOn`` if there is no end to it.
        """
        self._harness.drive(self.to_the_end())
        return self.outcome()

    def run_until_blocked(self) -> "TestRun[R]":
        """Skip time until the run has ended, or waits for what only the test can send. Raises ``RunStuck``."""
        self._harness.drive(self._engine.until(lambda: bool(self._engine.stuck) or self.ended))
        self._refuse_stuck()
        return self

    def advance(self, span: timedelta) -> "TestRun[R]":
        """Let so much time pass, for all runs of the harness."""
        self._harness.advance(span)
        return self

    def fire_timer(self) -> "TestRun[R]":
        """Let time pass until the run's next timer fires. Raises ``RunBlocked`` if none is running."""
        run = self.info
        if run.ended or run.wake_at is None:
            raise RunBlocked(self._blocked("no timer is running"), self.waits)
        self._harness.advance(max(run.wake_at - self._harness.now, timedelta(0)))
        return self

    def later(self, span: timedelta, action: Callable[..., object], /, *args: Any, **kwargs: Any) -> "TestRun[R]":
        """Call something when so much time has passed: ``run.later(hour, run.signal, approved, True)``."""
        self._harness.later(span, action, *args, **kwargs)
        return self

    @overload
    def signal(self, signal: Signal[T], value: T, *, delivery_id: str | None = ...) -> PostResult: ...
    @overload
    def signal(self, signal: SignalLike[None], *, delivery_id: str | None = ...) -> PostResult: ...
    @overload
    def signal(self, signal: str, value: Any = ..., *, delivery_id: str | None = ...) -> PostResult: ...
    def signal(self, signal: Any, value: Any = None, *, delivery_id: str | None = None) -> PostResult:
        """Send a signal, as :meth:`RunHandle.signal <continuum.client.handles.RunHandle.signal>` does, and raise so."""
        posted = self.handle.signal(signal, value, delivery_id=delivery_id)
        self._harness.move()
        return posted

    @overload
    def ask(self, question: Question[T, A], value: T) -> A: ...
    @overload
    def ask(self, question: str, value: Any = ...) -> Any: ...
    def ask(self, question: Any, value: Any = None) -> Any:
        """Send a signal that has a ``reply=`` and return the answer. Raises ``RunBlocked`` if none comes."""
        asking = self.handle._ask(question, value, None)  # noqa: SLF001 - the half of it that does not wait
        self._harness.drive(self._engine.until(lambda: bool(self._engine.stuck) or asking.look()))
        self._refuse_stuck()
        if not asking.look():
            raise RunBlocked(self._blocked("it has not answered"), self.waits)
        return asking.reply

    def cancel(self, *, cascade: bool = False) -> None:
        """Ask the run to cancel itself."""
        self.handle.cancel(cascade=cascade)
        self._harness.move()

    def terminate(self, reason: str | None = None, *, cascade: bool = False) -> None:
        """End the run without its code."""
        self.handle.terminate(reason, cascade=cascade)
        self._harness.move()

    # ------------------------------------------------------------------ the end, for both kinds of tests

    def to_the_end(self) -> Steps:
        """Return the engine's steps to the end of the run."""
        return self._engine.until(lambda: bool(self._engine.stuck) or self.ended)

    def outcome(self) -> R:
        """Return the result of a run that has come to its end. Raises as :meth:`result` does."""
        run = self.info
        if not run.ended:
            self._refuse_stuck()
            raise RunBlocked(self._blocked("no timer is running"), self.waits)
        continuum = self._harness.continuum
        found = continuum.journal.runs.outcomes([self.id])[self.id]
        try:
            value: R = read_outcome(self.id, found, workflow=run.workflow, registry=continuum.registry)
        except RunFailed as error:
            if error.remote_traceback:
                error.add_note(error.remote_traceback.rstrip())
            raise
        return value

    def _refuse_stuck(self) -> None:
        for run_id, reason in self._engine.stuck.items():
            run = self._harness.continuum.get(run_id)
            message = f"{name_of(run.workflow)} is stuck, as it would be in production until a deploy: {reason}"
            raise RunStuck(message, run_id, reason)

    def _blocked(self, why: str) -> str:
        run, waits = self.info, self.waits
        name = name_of(run.workflow)
        if run.ended:
            return f"{name} has ended ({run.state})"
        text = f"{name} {'; and it '.join(waits)}"
        advice = ": send it with .signal(…)" if "signal '" in text else ""
        return f"{text}, and {why}{advice}"
