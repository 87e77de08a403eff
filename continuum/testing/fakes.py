"""Here lives what stands in for activities.

A fake is given for an activity, and is asked once for each attempt:

=============================  ======================================================================
a function, ``async`` or not   is called with the arguments of the call; what it returns is the answer
an exception, or its class     is raised
an iterator, `outcomes(…)`     gives the answer of the next attempt
`fail(…)`, `takes(…)`          see there
`HANG`                         the attempt runs into its time limit
`REAL`                         the activity's own function is called
anything else                  is the answer
=============================  ======================================================================
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Final

from continuum.declare.activities import Activity
from continuum.declare.annotations import hints_of
from continuum.declare.registry import ActivityDeclaration, Registry
from continuum.errors import CodecError, ConfigError
from continuum.model.codec import codec_for
from continuum.testing.failures import FakeError

__all__ = ["HANG", "REAL", "Answer", "Fakes", "fail", "outcomes", "takes"]

_NOTHING: Final = timedelta(0)


class _Mark(Enum):
    HANG = "HANG"
    REAL = "REAL"

    def __repr__(self) -> str:
        return self.value


HANG: Final = _Mark.HANG
"""The attempt does not return: it passes the activity's ``heartbeat_timeout`` or ``timeout``, in skipped time."""

REAL: Final = _Mark.REAL
"""The activity's own function runs; for ``strict=True``, and as one of several `outcomes`."""


@dataclass(frozen=True, slots=True)
class _Failing:
    error: BaseException | type[BaseException]
    times: int | None
    then: Any


@dataclass(frozen=True, slots=True)
class _Taking:
    span: timedelta
    outcome: Any


class _Outcomes(Iterator[Any]):
    def __init__(self, each: tuple[Any, ...]) -> None:
        self._count = len(each)
        self._left = iter(each)

    def __repr__(self) -> str:
        return f"outcomes() of {self._count}"

    def __next__(self) -> Any:
        return next(self._left)


def fail(error: BaseException | type[BaseException], *, times: int | None = None, then: Any = REAL) -> Any:
    """Return a fake whose attempts raise ``error``: all of them, or of each call the first ``times``.

    What comes after those is ``then``: any other fake, by default the activity itself. How often an activity is tried
    and how long it waits in between is what its ``retry=`` says; the time is skipped.
    """
    if not (isinstance(error, BaseException) or (isinstance(error, type) and issubclass(error, BaseException))):
        message = f"fail({error!r}): write an exception, such as fail(ConnectionError('down'))."
        raise ConfigError(message)
    if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
        message = f"fail(times={times!r}) is not valid: write a whole number of at least 1."
        raise ConfigError(message)
    return _Failing(error, times, then)


def outcomes(*each: Any) -> Any:
    """Return a fake that gives one of these after the other: the first attempt the first, and so on.

    Each may be any fake. An attempt for which none is left fails the test.
    """
    return _Outcomes(each)


def takes(span: timedelta, outcome: Any = REAL) -> Any:
    """Return a fake whose attempts take so long, in skipped time, and then do what ``outcome`` says.

    Meanwhile signals arrive, timers fire and other activities run. An attempt that would take longer than its
    ``timeout``, or its ``heartbeat_timeout``, runs into that.
    """
    if not isinstance(span, timedelta) or span < _NOTHING:
        message = f"takes({span!r}) is not valid: write a timedelta, such as timedelta(minutes=5)."
        raise ConfigError(message)
    return _Taking(span, outcome)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt is to do.

    :ivar span: how long it takes; None if it hangs.
    :ivar call: what then returns its result or raises; a coroutine it returns is awaited.
    :ivar faked: whether it is not the activity's own function.
    :ivar planned: whether it raises an exception that was given as such.
    """

    span: timedelta | None
    call: Callable[[], Any]
    faked: bool
    planned: bool = False


class Fakes:
    """The fakes of one harness, by activity.

    Raises ``ConfigError`` on a key that is no activity.
    """

    def __init__(self, given: Mapping[Any, Any] | None, *, registry: Registry, strict: bool) -> None:
        if not isinstance(given, Mapping | None):
            message = (
                f"activities={given!r} is not valid: write a dict of fakes by activity, such as {{charge: 'paid'}}"
            )
            raise ConfigError(message)
        self._strict = strict
        self._by_name: dict[str, Any] = {}
        for key, fake in (given or {}).items():
            self._by_name[_name_of(key, registry)] = fake

    def answer(
        self, activity: ActivityDeclaration, args: tuple[Any, ...], kwargs: dict[str, Any], *, attempt: int
    ) -> Answer:
        """Say what an attempt is to do. Raises ``FakeError`` if it may not be made."""
        name = activity.name
        real = _Real(activity, args, kwargs)
        if name not in self._by_name:
            if self._strict:
                message = f"{name} was called{_said(args, kwargs)} and has no fake: strict=True wants one for each."
                raise FakeError(f"{message} To run it for real write activities={{…: REAL}}.")
            return Answer(_NOTHING, real, faked=False)
        return self._resolve(self._by_name[name], real, attempt, _NOTHING)

    def _resolve(self, outcome: Any, real: "_Real", attempt: int, span: timedelta) -> Answer:
        match outcome:
            case _Mark.HANG:
                return Answer(None, real, faked=True)
            case _Mark.REAL:
                return Answer(span, real, faked=False)
            case _Failing():
                failing = outcome.times is None or attempt <= outcome.times
                return self._resolve(outcome.error if failing else outcome.then, real, attempt, span)
            case _Taking():
                return self._resolve(outcome.outcome, real, attempt, span + outcome.span)
            case BaseException():
                return Answer(span, _raising(outcome), faked=True, planned=True)
            case type() if issubclass(outcome, BaseException):
                return Answer(span, _raising(outcome), faked=True, planned=True)
            case Activity() if outcome.name == real.name:
                return Answer(span, real, faked=False)
            # Before iterators: a MagicMock can do everything, also iterate (over mocks, without an end).
            case _ if callable(outcome):
                _refuse_misfit(outcome, real)
                args, kwargs = real.args, real.kwargs
                return Answer(span, lambda: outcome(*args, **kwargs), faked=True)
            case Iterator():
                try:
                    following = next(outcome)
                except StopIteration:
                    message = f"{real.name} was called{_said(real.args, real.kwargs)}, and {outcome!r} has none left."
                    raise FakeError(message) from None
                return self._resolve(following, real, attempt, span)
            case _:
                return Answer(span, lambda: outcome, faked=True)

    def check_result(self, activity: ActivityDeclaration, value: Any) -> None:
        """Raise ``FakeError`` if a faked result is not what the activity could return."""
        hint = hints_of(activity.function).get("return", Any)
        try:
            codec_for(hint).from_plain(activity.encode_result(value), what="the answer")
        except (CodecError, TypeError) as error:
            message = f"the fake of {activity.name} answers {value!r}, which its result {hint!r} cannot be: {error}"
            raise FakeError(message) from error


class _Real:
    """A call of the activity's own function."""

    __slots__ = ("_activity", "args", "kwargs")

    def __init__(self, activity: ActivityDeclaration, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._activity = activity
        self.args = args
        self.kwargs = kwargs

    @property
    def name(self) -> str:
        return self._activity.name

    def __call__(self) -> Any:
        if self._activity.policy.transactional:
            message = (
                f"{self.name} is transactional: it writes through a connection of the journal's database, and the"
                " harness has none. Give it a fake, or test it on Postgres."
            )
            raise FakeError(message)
        return self._activity.function(*self.args, **self.kwargs)


def _refuse_misfit(fake: Callable[..., Any], real: _Real) -> None:
    """Raise ``FakeError`` if a fake does not take the arguments: that is no failure for the workflow to handle."""
    try:
        signature = inspect.signature(fake)
    except (TypeError, ValueError):
        return  # some that are written in C do not tell
    try:
        signature.bind(*real.args, **real.kwargs)
    except TypeError as error:
        message = f"{real.name} was called{_said(real.args, real.kwargs)}, which its fake does not take: {error}"
        raise FakeError(message) from None


def _raising(error: BaseException | type[BaseException]) -> Callable[[], Any]:
    def call() -> Any:
        # Raised again and again: each time without the frames of the time before.
        raise error.with_traceback(None) if isinstance(error, BaseException) else error

    return call


def _said(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    words = [*(repr(value) for value in args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    return f" with ({', '.join(words)})"


def _name_of(key: object, registry: Registry) -> str:
    if isinstance(key, Activity):
        return key.name
    if isinstance(key, str):
        if registry.find_activity(key) is not None:
            return key
        found = [known.name for known in registry.activities() if known.name.rpartition(".")[2] == key]
        if len(found) == 1:
            return found[0]
        which = "none" if not found else " and ".join(found)
        message = f"activities={{{key!r}: …}}: of the activities declared here {which} has this name: use the activity"
        raise ConfigError(f"{message} itself as the key.")
    message = f"activities={{{key!r}: …}}: the keys are activities, what @activity made, or their names."
    raise ConfigError(message)
