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
    │   └── UnknownVersion
    ├── ActivityError              one activity, seen from workflow code
    │   ├── ActivityFailed
    │   ├── ActivityTimedOut
    │   ├── ActivityCancelled
    │   └── ChildFailed
    ├── PermanentError             raised by authors of activities: never retry
    ├── RetryAfter                 raised by authors of activities: retry after this delay
    ├── ReplayError
    │   ├── ReplayDriftError       history and code disagree
    │   ├── NotInWorkflow          an effect used where no workflow runs
    │   ├── SpinError              workflow code that never comes to rest
    │   └── BlockingCall           a call that makes no sense on the workflow's event loop
    ├── JournalError
    │   ├── LeaseLost
    │   ├── ClaimLost
    │   ├── JournalUnavailable     transient; what was asked may or may not have happened
    │   ├── JournalBusy            transient; refused whole, nothing was written
    │   └── SchemaOutdated
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
    "ChildFailed",
    "ClaimLost",
    "CodecError",
    "ConfigError",
    "ContinuumError",
    "DeclarationError",
    "DeterminismError",
    "DuplicateName",
    "ExecutorError",
    "JournalBusy",
    "JournalError",
    "JournalUnavailable",
    "LeaseLost",
    "NotInWorkflow",
    "PermanentError",
    "ReplayDriftError",
    "ReplayError",
    "ResultTimeout",
    "RetryAfter",
    "RunCancelled",
    "RunError",
    "RunFailed",
    "RunNotFound",
    "RunTerminal",
    "SchemaOutdated",
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
    """Workflow code does something that cannot be replayed."""


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
    """The run was cancelled or terminated before it had a result."""


class ResultTimeout(RunError, TimeoutError):
    """The result did not arrive in time. The run goes on; ask again later."""


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
    """A child workflow failed or was cancelled."""


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
    ``location`` is where the code asked (``file:line``).
    """

    command: int
    recorded: str
    requested: str
    location: str


class NotInWorkflow(ReplayError):
    """An effect was used where no workflow is running."""


class SpinError(ReplayError):
    """Workflow code kept itself busy without waiting for anything."""


class BlockingCall(ReplayError):
    """Workflow code asked its event loop for threads, sockets, processes or signals."""


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


class CodecError(ContinuumError):
    """A value cannot be encoded or decoded; ``path`` says where in the value (``input.items[3].owner``)."""

    path: str

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message, path=path)


class ExecutorError(ContinuumError):
    """An executor cannot accept work as configured."""
