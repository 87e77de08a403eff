"""Here lives every error a user or another room can meet, as one tree.

::

    ContinuumError
    ├── ConfigError                an option, URL or environment variable is wrong
    ├── DeclarationError           a workflow or activity is declared wrongly
    │   ├── DeterminismError
    │   └── DuplicateName
    ├── RunError                   one run, seen from outside
    │   ├── RunNotFound
    │   ├── RunTerminal            it has ended; nothing can be sent to it any more
    │   ├── RunFailed
    │   ├── RunCancelled           cancelled or terminated
    │   ├── ResultTimeout          (also a TimeoutError) the wait ended, the run goes on
    │   ├── SignalRefused          the run's workflow does not take this signal, or not this value
    │   └── UnknownVersion
    ├── ActivityError              one activity, seen from workflow code
    │   ├── ActivityFailed
    │   ├── ActivityTimedOut
    │   ├── ActivityCancelled
    │   ├── ChildFailed            a child workflow failed
    │   │   └── ChildCancelled     it was cancelled or terminated
    │   ├── ChildDepthExceeded     children of children of children …
    │   └── CompensationError      there is nothing to compensate, or it has been
    ├── PermanentError             raised by authors of activities: never retry
    ├── RetryAfter                 raised by authors of activities: retry after this delay
    ├── ReplayError
    │   ├── ReplayDriftError       history and code disagree
    │   ├── NotInWorkflow          an effect used where no workflow runs
    │   ├── SpinError              workflow code that never comes to rest
    │   ├── ReplayMismatch         replayed from its own history, a run is not where it was (paranoid mode)
    │   ├── BlockingCall           a call that makes no sense on the workflow's event loop
    │   └── ForbiddenCall          a call whose answer a replay could not repeat
    ├── JournalError
    │   ├── LeaseLost
    │   ├── ClaimLost
    │   ├── JournalUnavailable     transient; what was asked may or may not have happened
    │   ├── JournalBusy            transient; refused whole, nothing was written
    │   └── SchemaOutdated
    ├── SearchError                (also a ValueError) a field, operator, value or cursor is not valid
    ├── HistoryError               (also a ValueError) what should be a written-down history is none
    ├── CodecError                 a value cannot be stored; ``.path`` says where it sits
    └── ExecutorError

Every error keeps its constructor's arguments, so it survives pickling; ``transient`` says whether trying again
later can help.
"""

from datetime import timedelta
from typing import Any, ClassVar

__all__ = [
    "ActivityCancelled",
    "ActivityError",
    "ActivityFailed",
    "ActivityTimedOut",
    "BlockingCall",
    "ChildCancelled",
    "ChildDepthExceeded",
    "ChildFailed",
    "ClaimLost",
    "CodecError",
    "CompensationError",
    "ConfigError",
    "ContinuumError",
    "DeclarationError",
    "DeterminismError",
    "DuplicateName",
    "ExecutorError",
    "ForbiddenCall",
    "HistoryError",
    "JournalBusy",
    "JournalError",
    "JournalUnavailable",
    "LeaseLost",
    "NotInWorkflow",
    "PermanentError",
    "ReplayDriftError",
    "ReplayError",
    "ReplayMismatch",
    "ResultTimeout",
    "RetryAfter",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunTerminal",
    "SchemaOutdated",
    "SearchError",
    "SignalRefused",
    "SpinError",
    "UnknownVersion",
]


class ContinuumError(Exception):
    """Base of everything Continuum raises on purpose."""

    transient: ClassVar[bool] = False

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields
        for name, value in fields.items():
            setattr(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        # One __reduce__ for the tree: keyword fields would be lost by the default one.
        return _rebuild, (type(self), self.message, self.fields)


def _rebuild(cls: type[ContinuumError], message: str, fields: dict[str, Any]) -> ContinuumError:
    error = cls.__new__(cls)
    ContinuumError.__init__(error, message, **fields)
    return error


class ConfigError(ContinuumError):
    """An option, URL or environment variable is missing or wrong; the message says what to write instead."""


class DeclarationError(ContinuumError):
    """A workflow or activity is declared in a way that cannot work."""


class DeterminismError(DeclarationError):
    """Workflow code does something that cannot be replayed; ``findings`` says what, where, and what to write instead.

    ``findings`` is a tuple of :class:`~continuum.determinism.findings.Finding`.
    """

    findings: tuple[Any, ...]


class DuplicateName(DeclarationError):
    """Two different declarations claim one name."""


class RunError(ContinuumError):
    """Something about one run; ``run_id`` names it."""

    run_id: str


class RunNotFound(RunError):
    """No run has this id (in this namespace)."""


class RunTerminal(RunError):
    """The run has ended; ``state`` says how."""

    state: str


class RunFailed(RunError):
    """The workflow raised. ``type_name``, ``error_message`` and ``remote_traceback`` describe the exception."""

    type_name: str
    error_message: str
    remote_traceback: str


class RunCancelled(RunError):
    """The run was cancelled or terminated before it had a result; ``state`` says which, ``reason`` why."""

    state: str
    reason: str


class ResultTimeout(RunError, TimeoutError):
    """The result did not arrive in time. The run goes on; ask again later."""


class SignalRefused(RunError):
    """The workflow of the run declares its signals, and not this one, or not with such a value. Nothing was sent."""

    signal: str


class UnknownVersion(RunError):
    """No loaded code can continue the run; deploy the workflow and version named in the message."""


class ActivityError(ContinuumError):
    """An activity did not succeed. Raised at the workflow's ``await``."""

    activity: str
    attempts: int


class ActivityFailed(ActivityError):
    """Every allowed attempt raised.

    ``type_name`` and ``error_message`` describe the last exception, ``remote_traceback`` is its (bounded) text,
    ``cause_fields`` are its plain fields where it had any.
    """

    type_name: str
    error_message: str
    remote_traceback: str


class ActivityTimedOut(ActivityError, TimeoutError):
    """The last attempt passed its time limit; ``limit`` says which (``timeout`` or ``heartbeat_timeout``)."""

    limit: str


class ActivityCancelled(ActivityError):
    """The activity was cancelled before it had an outcome."""


class ChildFailed(ActivityError):
    """A child workflow did not complete. Raised at the parent's ``await``; ``activity`` is the child's workflow.

    ``run_id`` is the child's id; ``type_name``, ``error_message`` and ``remote_traceback`` describe what it raised.
    """

    run_id: str
    type_name: str
    error_message: str
    remote_traceback: str


class ChildCancelled(ChildFailed):
    """A child workflow was cancelled or terminated; ``state`` says which. Decided by its state, never by an error."""

    state: str


class ChildDepthExceeded(ActivityError):
    """A child would be deeper below the first run than ``max_child_depth`` allows. It was not started."""


class CompensationError(ActivityError):
    """There is nothing to compensate: the call has no compensation, did not succeed, or was compensated before."""


class PermanentError(ContinuumError):
    """Raise it in an activity to fail at once, whatever the retry policy says."""


class RetryAfter(ContinuumError):
    """Raise it in an activity to choose the delay before the next attempt.

    The attempt counts like any failed one; after the last one the activity fails.
    """

    delay: timedelta

    def __init__(self, delay: timedelta | float, message: str = "") -> None:
        seconds = delay if isinstance(delay, timedelta) else timedelta(seconds=delay)
        super().__init__(message or f"retry after {seconds}", delay=seconds)


class ReplayError(ContinuumError):
    """Workflow code and the engine cannot go on together."""


class ReplayDriftError(ReplayError):
    """The code asked for something else than the history recorded.

    ``command`` is the number at which they part, ``recorded`` and ``requested`` describe both sides,
    ``recorded_location`` and ``location`` are where each was asked for (``file:line``), "" if unknown. ``difference``
    has a line for each place in which the payloads differ, ``advice`` says what to do.
    """

    command: int
    recorded: str
    requested: str
    location: str
    recorded_location: str = ""
    difference: str = ""
    advice: str = ""


class NotInWorkflow(ReplayError):
    """An effect was used where no workflow is running."""


class SpinError(ReplayError):
    """Workflow code kept itself busy without waiting for anything."""


class ReplayMismatch(ReplayError):
    """Paranoid mode: a run that was replayed from its own history did not come out where it stands.

    Nothing of that turn was written. ``difference`` tells in what they differ.
    """

    difference: str


class BlockingCall(ReplayError):
    """Workflow code asked its event loop for threads, sockets, processes or signals."""


class ForbiddenCall(ReplayError):
    """Workflow code called, while it ran, what a replay could not repeat: a clock, chance, a file, the network.

    The run is set aside as stuck, as it was before the call, until a deploy removes it. ``call`` is what was called,
    ``replacement`` what to write instead, ``location`` where it was called (``file:line``).
    """

    call: str
    replacement: str
    location: str


class JournalError(ContinuumError):
    """The journal refused or could not do something."""


class LeaseLost(JournalError):
    """Another grant of the run exists; whatever this holder wanted to write was not written."""


class ClaimLost(JournalError):
    """The task is no longer claimed by this worker at this attempt; its outcome was not written."""


class JournalUnavailable(JournalError):
    """The database cannot be reached or is not able to answer now. Nothing is lost; try again."""

    transient: ClassVar[bool] = True


class JournalBusy(JournalError):
    """The database refused for now (a lock, a deadlock, its limits). Nothing was written; send the same again."""

    transient: ClassVar[bool] = True


class SchemaOutdated(JournalError):
    """The database's schema and this release do not fit; the message says which side to upgrade."""


class SearchError(ContinuumError, ValueError):
    """What was searched for cannot be: the message names the field, operator, value or cursor, and what is valid."""


class HistoryError(ContinuumError, ValueError):
    """A text is not a history as ``dump_history`` writes one, or is one of a later release."""


class CodecError(ContinuumError):
    """A value cannot be encoded or decoded; ``path`` says where in the value (``input.items[3].owner``)."""

    path: str

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message, path=path)


class ExecutorError(ContinuumError):
    """An executor cannot accept work as configured."""
