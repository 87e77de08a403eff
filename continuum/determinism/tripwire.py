"""Here lives the tripwire: what workflow code must not call raises, while workflow code runs.

The scanner reads the source before it runs and cannot follow everything: a method found at run time, a library. The
tripwire sees the call itself. It raises ``ForbiddenCall`` in the code that calls, *and* makes that the run's fault, so
that no ``except`` can swallow it: the turn is dropped, its history stays as it was, and the run is stuck with the
reason until a deploy has removed the call.

**Who is on that thread.** A turns thread (or a test, on whatever thread) does its own work most of the time: sockets,
clocks, logging. Only between `enter` and `leave` of a run's event loop may workflow code be on the stack, and that loop
is then the thread's running loop, as every thread has its own. Four kinds of code run there:

1. Workflow code, and the libraries it calls.
2. Ours: the loop, effects, the codec.
3. What Python does on behalf of either: it imports modules (whose bodies may do anything, once), reads source lines for
   tracebacks and warnings, and time zones.
4. Bystanders: finalizers that the garbage collector calls, of objects that may be of another thread's; debuggers;
   handlers of signals, on the main thread (a test's).

**How they are told apart.** In three steps, each rarer and dearer than the one before:

1. A list is empty unless a guarded loop is entered on *any* thread (some ns; all that other code pays).
2. The running loop of *this* thread is a guarded one (some 50 ns; what other threads pay while workflow code runs).
3. The stack is walked from the call outwards: see `culprits`. Code 2 to 4 ends the walk, and nothing happens.

Frames are known by their code, not by their names or by what they do, so the answer is certain: the innermost function
that is not Python's decides who made the call, and certain functions of ours and of Python (the import system,
`side_effect`, the text of a log line) shield all that they call, since its outcome reaches no history.

**What is forbidden** is what the table `calls` forbids, if its rule is an error in this process: `configure_checks`,
``CONTINUUM_CHECKS``, trusted modules, ``@pure`` and suppressions with a reason hold here as they do for the scanner.
The environment, the host's name and the console count only where an author's own code asks for them: a library that
looks at them does so for reasons of its own.

# Invariant: what trips on a live run trips when it is replayed, or the run is stuck before anything was written.
# Invariant: on other threads, and for code 2 to 4, every call does what it did before.
"""

import linecache
import os
import re
import signal
import sys
from collections.abc import Callable, Collection
from types import CodeType, FrameType
from typing import Any, Final, NoReturn, Protocol

from continuum.determinism.calls import Forbidden, canonical_name, find_forbidden
from continuum.determinism.culprits import Culprit, find_culprit, place_of
from continuum.determinism.findings import Severity
from continuum.determinism.policy import current_policy
from continuum.determinism.pure import is_pure
from continuum.determinism.rules import RULES
from continuum.determinism.wiretaps import EVENTS, TIME_MACHINE, Taps
from continuum.errors import ForbiddenCall

__all__ = ["Guarded", "Stage", "install"]

# The environment, the console, the host: libraries look at these without telling anybody.
_OWN_CALLS_ONLY: Final = frozenset({"CT104", "CT110", "CT112"})
_SUPPRESSION: Final = re.compile(r"#\s*continuum:\s*allow\s*\[([^\]]*)\]\s*:?\s*\S")
_ZONES: Final = "/zoneinfo/"


class Guarded(Protocol):
    """A run's event loop, as far as the tripwire knows it."""

    collecting: bool

    def trip(self, fault: BaseException) -> BaseException:
        """Make this the fault of the run, and return the one to raise."""
        ...


class Stage:
    """What the tripwire is told of replay, which it may not import.

    :param entered: not empty while a guarded loop is entered anywhere in the process.
    :param current: returns the guarded loop that is entered on this thread, or None.
    :param stops: the functions that step workflow code.
    :param steppers: those that call what workflow code gave them.
    :param shields: those within which nothing is forbidden.
    """

    __slots__ = ("current", "entered", "shields", "steppers", "stops")

    def __init__(
        self,
        *,
        entered: list[object],
        current: Callable[[], Guarded | None],
        stops: Collection[CodeType],
        steppers: Collection[CodeType],
        shields: Collection[CodeType],
    ) -> None:
        self.entered = entered
        self.current = current
        self.stops = frozenset(stops)
        self.steppers = frozenset(steppers)
        self.shields = frozenset(shields) | {_accuse.__code__}


class _Installed:
    """The one of this process."""

    taps: Taps | None = None


def install(stage: Stage, *, packages: Collection[str] = ()) -> None:
    """Stretch the tripwire in this process, for good. Later calls only mend it, and cover modules loaded since.

    :param packages: installed packages that are authors' code: those that declare workflows.
    """
    taps = _Installed.taps
    if taps is None:
        taps = _Installed.taps = Taps(stage.entered, _judge_of(stage))
        # Whoever forks has workflow code on one thread at most; that thread is not the child's.
        os.register_at_fork(after_in_child=stage.entered.clear)
        taps.install()
        sys.addaudithook(_hook_of(stage, taps))
    else:
        taps.install()
    taps.cover(packages)


def _judge_of(stage: Stage) -> Callable[[str], None]:
    current = stage.current

    def judge(name: str) -> None:
        loop = current()
        if loop is not None:
            _accuse(stage, loop, name, sys._getframe(2))  # noqa: SLF001 - whoever called the wrapper

    return judge


def _hook_of(stage: Stage, taps: Taps) -> Callable[[str, tuple[Any, ...]], None]:
    entered, current = stage.entered, stage.current

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if entered:
            name = EVENTS.get(event)
            if name is not None:
                loop = current()
                if loop is not None and not (event == "open" and _is_harmless(args)):
                    _accuse(stage, loop, name, sys._getframe(1))  # noqa: SLF001 - whoever caused the event
        if event == "import" and args[0] == TIME_MACHINE:
            taps.free_clocks()

    return hook


def _is_harmless(args: tuple[Any, ...]) -> bool:
    """Whether C code of Python itself opens a file: nothing of Python's is on the stack then but the author's code."""
    path, mode = args[0], args[1]
    return isinstance(path, str) and mode == "r" and (path.endswith(".py") or _ZONES in path)


def _accuse(stage: Stage, loop: Guarded, name: str, frame: FrameType | None) -> None:
    """Raise if the call is workflow code's, and forbidden."""
    if loop.collecting:
        return
    culprit = find_culprit(
        frame, stops=stage.stops, steppers=stage.steppers, shields=stage.shields, is_trusted=_is_trusted
    )
    if culprit is None:
        return
    call, forbidden = _name(culprit, name)
    if forbidden is None or not _counts(culprit, forbidden.code) or _is_in_handler(frame, stage.stops):
        return
    _trip(loop, call, forbidden, culprit.frame)


def _is_in_handler(frame: FrameType | None, stops: Collection[CodeType]) -> bool:
    """Whether a handler of signals makes the call: Python calls it between any two steps of what runs there."""
    handlers = {_code_of(signal.getsignal(number)) for number in signal.valid_signals()}
    while frame is not None and frame.f_code not in stops:
        if frame.f_code in handlers:
            return True
        frame = frame.f_back
    return False


def _code_of(handler: Any) -> CodeType | None:
    if not callable(handler):
        return None  # SIG_DFL, SIG_IGN, or one of C's
    found: CodeType | None = getattr(handler, "__code__", None) or getattr(type(handler).__call__, "__code__", None)
    return found


def _name(culprit: Culprit, name: str) -> tuple[str, Forbidden | None]:
    """Return what the author called, by the name that says most, and why it is forbidden."""
    called = culprit.called
    if called is not None:
        # Who makes an object calls the class.
        called = canonical_name(called.removesuffix(".__init__").removesuffix(".__new__"))
        forbidden = find_forbidden(called)
        if forbidden is not None:
            return called, forbidden
    forbidden = find_forbidden(name)
    name = name.removeprefix("builtins.")
    if called is not None and not culprit.is_direct:
        name = f"{name} (in {called})"
    return name, forbidden


def _is_trusted(frame: FrameType) -> bool:
    if current_policy().is_trusted(frame.f_globals.get("__name__") or ""):
        return True
    # A frame does not know its function: it is looked up by its name, in the module and then in classes.
    value: Any = None
    for part in frame.f_code.co_qualname.split("."):
        value = frame.f_globals.get(part) if value is None else getattr(value, part, None)
        if value is None:
            return False
        if is_pure(value) or is_pure(getattr(value, "__wrapped__", value)):
            return True
    return False


def _counts(culprit: Culprit, code: str) -> bool:
    if code in _OWN_CALLS_ONLY and not culprit.is_direct:
        return False
    if current_policy().severity_of(code) is not Severity.ERROR:
        return False
    return culprit.frame is None or not _is_suppressed(culprit.frame, code)


def _is_suppressed(frame: FrameType, code: str) -> bool:
    file = frame.f_code.co_filename
    for line in (frame.f_lineno, *_def_lines(file, frame.f_code)):
        found = _SUPPRESSION.search(linecache.getline(file, line))
        if found and code in re.split(r"[\s,]+", found[1]):
            return True
    return False


def _def_lines(file: str, code: CodeType) -> list[int]:
    """Return the line of the ``def``, which decorators push down."""
    first = code.co_firstlineno
    for line in range(first, first + 20):
        text = linecache.getline(file, line).lstrip()
        if text.startswith(("def ", "async def ", "class ")):
            return [line]
    return []


def _trip(loop: Guarded, call: str, forbidden: Forbidden, frame: FrameType | None) -> NoReturn:
    location = "" if frame is None else place_of(frame)
    where = f" at {location}" if location else ""
    rule = RULES[forbidden.code]
    message = (
        f"workflow code called {call}{where} ({rule.code}). {rule.summary} Instead, {forbidden.hint}. The run is as it"
        " was before; it goes on once code is deployed that does not call it."
    )
    raise loop.trip(ForbiddenCall(message, call=call, replacement=forbidden.hint, location=location)) from None
