"""Here lives what a test may ask about the activities that were called."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, overload

from continuum.declare.registry import ActivityDeclaration
from continuum.model.ids import RunId

__all__ = ["Call", "CallLog", "Calls", "bind"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of an activity, with all its attempts.

    :ivar activity: name of the activity.
    :ivar args: its arguments as recorded, decoded again.
    :ivar kwargs: those given by name.
    :ivar arguments: all of them by parameter, defaults included.
    :ivar run_id: which run called it.
    :ivar command: number of the call within the run.
    :ivar times: when each of its attempts began.
    :ivar errors: what its attempts raised, oldest first; what ran into a time limit, or died, is not among them.
    """

    activity: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    arguments: Mapping[str, Any]
    run_id: RunId
    command: int
    times: tuple[datetime, ...]
    errors: tuple[BaseException, ...] = ()

    def __repr__(self) -> str:
        words = [*(repr(value) for value in self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        tries = "" if self.attempts == 1 else f" ×{self.attempts}"
        return f"{self.activity.rpartition('.')[2]}({', '.join(words)}){tries}"

    @property
    def attempts(self) -> int:
        """How many attempts have begun."""
        return len(self.times)


class Calls(Sequence[Call]):
    """Calls in the order in which their first attempts began. Compare them, or let them assert.

    A call that was tried three times is one call. Arguments are compared by parameter: ``charge("o1")`` is
    ``charge(order_id="o1")``.
    """

    def __init__(self, calls: Sequence[Call], *, activity: ActivityDeclaration | None = None) -> None:
        self._calls = tuple(calls)
        self._activity = activity

    @overload
    def __getitem__(self, index: int) -> Call: ...
    @overload
    def __getitem__(self, index: slice) -> "Calls": ...
    def __getitem__(self, index: int | slice) -> "Call | Calls":
        if isinstance(index, slice):
            return Calls(self._calls[index], activity=self._activity)
        return self._calls[index]

    def __len__(self) -> int:
        return len(self._calls)

    def __repr__(self) -> str:
        return f"[{', '.join(map(repr, self._calls))}]"

    @property
    def count(self) -> int:  # type: ignore[override]  # as in unittest.mock's call_count; nobody counts equal calls
        """How many calls there were."""
        return len(self._calls)

    @property
    def names(self) -> list[str]:
        """The activities called, in order, without their modules."""
        return [call.activity.rpartition(".")[2] for call in self._calls]

    def assert_called(self) -> None:
        """Assert that there was a call."""
        if not self._calls:
            self._fail("was not called")

    def assert_not_called(self) -> None:
        """Assert that there was none."""
        if self._calls:
            self._fail("was called")

    def assert_called_once(self) -> None:
        """Assert that there was exactly one call, of however many attempts."""
        if len(self._calls) != 1:
            self._fail(f"was called {len(self._calls)} times instead of once")

    def assert_called_with(self, *args: Any, **kwargs: Any) -> None:
        """Assert that the last call had these arguments."""
        self.assert_called()
        if not self._fits(self._calls[-1], args, kwargs):
            self._fail(f"was last called otherwise than with {_said(args, kwargs)}")

    def assert_called_once_with(self, *args: Any, **kwargs: Any) -> None:
        """Assert that there was exactly one call, with these arguments."""
        self.assert_called_once()
        if not self._fits(self._calls[0], args, kwargs):
            self._fail(f"was called otherwise than with {_said(args, kwargs)}")

    def assert_any_call(self, *args: Any, **kwargs: Any) -> None:
        """Assert that one of the calls had these arguments."""
        if not any(self._fits(call, args, kwargs) for call in self._calls):
            self._fail(f"was never called with {_said(args, kwargs)}")

    def _fits(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        if self._activity is None:
            return (call.args, dict(call.kwargs)) == (args, kwargs)
        return dict(call.arguments) == bind(self._activity, args, kwargs)

    def _fail(self, what: str) -> None:
        name = "no activity" if self._activity is None else self._activity.name
        message = f"{name} {what}; calls: {self!r}" if self._calls else f"{name} {what}"
        raise AssertionError(message)


def _said(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    words = [*(repr(value) for value in args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f"({', '.join(words)})"


def bind(activity: ActivityDeclaration, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return arguments by parameter, defaults included. Raises ``TypeError`` as the call would."""
    signature = inspect.signature(activity.function)
    if activity.policy.transactional:
        kept = [known for known in signature.parameters.values() if known.name != "connection"]
        signature = signature.replace(parameters=kept)
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


@dataclass(slots=True)
class _Record:
    activity: ActivityDeclaration
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    times: list[datetime] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)


class CallLog:
    """Writes down every attempt. Outlives crashes and restarts of what it watches."""

    def __init__(self) -> None:
        self._records: dict[tuple[RunId, int], _Record] = {}

    def began(
        self,
        activity: ActivityDeclaration,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        run_id: RunId,
        command: int,
        at: datetime,
    ) -> None:
        """Note that an attempt begins."""
        record = self._records.setdefault((run_id, command), _Record(activity, args, kwargs))
        record.times.append(at)

    def raised(self, run_id: RunId, command: int, error: BaseException) -> None:
        """Note what an attempt raised."""
        self._records[run_id, command].errors.append(error)

    def calls(self, activity: ActivityDeclaration | None, *, runs: frozenset[RunId] | None = None) -> Calls:
        """Return the calls of an activity, or of all, made by all runs or by some."""
        found = [
            Call(
                activity=record.activity.name,
                args=record.args,
                kwargs=record.kwargs,
                arguments=bind(record.activity, record.args, record.kwargs),
                run_id=run_id,
                command=command,
                times=tuple(record.times),
                errors=tuple(record.errors),
            )
            for (run_id, command), record in self._records.items()
            if (activity is None or record.activity.name == activity.name) and (runs is None or run_id in runs)
        ]
        return Calls(found, activity=activity)
