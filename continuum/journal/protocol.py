"""Here lives what every journal promises, in words that both wings and all tests share.

A journal is a value of a few small stores, so that no class is "the database":

- ``runs``: what clients ask and post. Blocking, safe to call from any thread.
- ``tasks``: what pools claim and report. Blocking, any thread.
- ``workers``: leases, death and sweep, loaded versions. Blocking, any thread.
- ``upkeep``: partitions. Blocking, any thread.
- ``snapshots``: folded histories. Blocking, any thread.
- ``open_line()``: a pinned connection for a dispatcher's turns thread. One request in flight; it is sent, not
  awaited, and the reply is fetched when ``fileno()`` becomes readable.
- ``open_ears()``: hints ("look again"). They may be lost at any moment and nothing may depend on them.

The rules of every statement (who may write what, what is compared, what a lost answer means) are those of
``docs/explanation/protocol.md``. All of them hold for the memory wing as well.

Errors: a method that cannot reach the database raises :class:`~continuum.errors.JournalUnavailable` and has
written nothing *or* has written all of it; only ``Line`` callers have to care which (see :class:`Line`).
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final, Protocol

import msgspec

from continuum.journal.folding import Snapshots
from continuum.journal.requests import Hint, HintKind, Reply, Request
from continuum.model.clock import DatabaseClock
from continuum.model.events import Event
from continuum.model.failures import Failure
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import Reaped, RecordedVersion, WorkerInfo, WorkerRecord, WorkflowVersion
from continuum.model.messages import NewMessage
from continuum.model.patches import PatchUse
from continuum.model.runs import NewRun, Run, RunState
from continuum.model.search import Query
from continuum.model.tasks import ClaimedTask, DispatchedTask, TaskOutcome, TaskRecord, TaskRef

__all__ = [
    "ATTEMPT_GRACE",
    "LONGEST_DISPATCH_DEADLINE",
    "Dispatches",
    "Ears",
    "Journal",
    "Line",
    "PostResult",
    "RunPage",
    "Runs",
    "Tasks",
    "TransactionalTask",
    "Upkeep",
    "Workers",
]


ATTEMPT_GRACE: Final = timedelta(seconds=10)
"""What an attempt in an external executor gets beyond its time limits before the reaper ends it."""

LONGEST_DISPATCH_DEADLINE: Final = timedelta(minutes=10)
"""Each dispatch of a task doubles how long it may stay unclaimed, up to this: a long queue is not published twice."""


class Ears(Protocol):
    """A pinned connection that hears hints."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when there may be something to hear."""

    def hear(self) -> list[Hint]:
        """Return what has been heard since the last call; never blocks.

        Raises ``JournalUnavailable`` if the connection is gone: open new ears, and look yourself once.
        """

    def close(self) -> None:
        """Close the connection."""


class Line(Protocol):
    """A pinned connection with at most one request in flight.

    Owned by one thread. After any :class:`~continuum.errors.JournalUnavailable` the line is dead: close it, open
    another, and treat its request as *unknown*: it may have been executed, may still be, or never will.
    Any other error means that the request was refused as a whole and nothing of it was written.
    """

    @property
    def request(self) -> Request | None:
        """The request in flight."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when ``receive`` may have a reply."""

    def send(self, request: Request) -> bool:
        """Send a request and return at once. The line must be idle.

        True: the reply may have arrived while sending, and ``fileno()`` may stay silent about it; call ``receive``
        before sleeping.
        """

    def receive(self) -> Reply | None:
        """Return the reply, or None if it is not there yet; never blocks."""

    def wait(self, timeout: float) -> Reply | None:
        """Like ``receive``, but wait up to ``timeout`` seconds for the reply."""

    def close(self) -> None:
        """Close the connection, whatever is in flight."""


# ------------------------------------------------------------------ stores


class PostResult(StrEnum):
    """What became of a message."""

    DELIVERED = "delivered"
    DUPLICATE = "duplicate"


class RunPage(msgspec.Struct, frozen=True):
    """Runs in the order asked for; ``cursor`` continues after the last one, None if there are no more."""

    runs: list[Run]
    cursor: str | None


class Runs(Protocol):
    """What clients ask and post.

    ``connection`` joins the caller's own transaction: a SQLAlchemy connection or session, or a psycopg2 or
    psycopg 3 connection (the memory wing refuses it). Nothing here ever makes that transaction fail by a
    conflict, and nothing locks a row of a run.
    """

    def start(self, run: NewRun, *, connection: Any = None) -> tuple[RunId, bool]:
        """Write a run and return (its id, True), or (the first run's id, False) if its idempotency key is taken.

        A second start with the same *run id* changes nothing and returns it with True: a retry after a lost
        answer. Raises ``SchemaOutdated``, ``JournalUnavailable``.
        """

    def post(self, message: NewMessage, *, connection: Any = None) -> PostResult:
        """Post a signal or cancel request to the tip of a chain. Raises ``RunNotFound``, ``RunTerminal``."""

    def terminate(self, run_id: RunId, *, namespace: str | None, reason: str) -> RunId:
        """End the tip of the run's chain now, without its code, and return its id.

        In the same transaction a parent is told, and the open children are, each what its ``ParentClose`` says.

        Raises ``RunNotFound``, ``RunTerminal``.
        """

    def contract(self, run_id: RunId, *, namespace: str | None = None, connection: Any = None) -> str | None:
        """Return the contract of the signals of the version that the tip of the run's chain is pinned to.

        None if it has none, or if that version was never loaded by a dispatcher. Raises ``RunNotFound``.
        """

    def set_attributes(self, run_id: RunId, attributes: str, *, namespace: str | None = None) -> None:
        """Merge a JSON object, key by key, into the attributes of the tip of the run's chain, ended or not.

        Journals nothing. Two at once both survive, also beside a commit that sets some or continues the run; for the
        first ones of a run it shares a lock on that run's row. Raises ``RunNotFound``.
        """

    def published(self, run_id: RunId, *, namespace: str | None = None) -> Mapping[str, Event]:
        """Return what the tip of the run's chain published: of each name the last event. Raises ``RunNotFound``."""

    def descendants(self, run_id: RunId, *, namespace: str | None = None, limit: int) -> Sequence[Run]:
        """Return the runs that stand for the chains below the run's chain, each after its parent, at most ``limit``.

        Raises ``RunNotFound``.
        """

    def find(self, run_id: RunId, *, namespace: str | None = None, tip: bool = False) -> Run | None:
        """Return the run, or with ``tip`` the last run of its chain; None if there is none (in the namespace)."""

    def search(self, query: Query) -> RunPage:
        """Return the page of runs that fulfil all conditions, in the query's order, from behind its cursor's run on."""

    def patches(self) -> Sequence[PatchUse]:
        """Return the open runs, counted, by what they have answered to ``patched``: in order.

        Reads the table of runs, and the histories of those that are open.
        """

    def history(self, run_id: RunId, *, after: int = 0, limit: int | None = None) -> list[Event]:
        """Return the run's events with ``seq > after``, oldest first."""

    def outcomes(self, run_ids: Sequence[RunId]) -> Mapping[RunId, tuple[RunState, Event]]:
        """Return, for each given run whose chain has ended, the tip's state and terminal event."""


class Dispatches(msgspec.Struct, frozen=True):
    """Tasks now marked as dispatched by the asking worker.

    :ivar next_due_us: when the next free task of that executor is due, in microseconds since the epoch, if later than
        now; None if there is none.
    :ivar more: whether more are due than were taken.
    """

    tasks: list[DispatchedTask]
    next_due_us: int | None = None
    more: bool = False


class TransactionalTask(Protocol):
    """An open transaction of the journal's database in which an activity runs."""

    connection: Any

    def finish(self, outcome: TaskOutcome) -> bool:
        """Write the outcome into the same transaction. False: the claim is gone, the transaction is undone."""


class Tasks(Protocol):
    """What pools claim and report. Every write names (run, command, attempt, worker); no match means stale."""

    def claim(
        self, worker: WorkerId, *, queues: Mapping[str, int] | None, limit: int, executor: str = "local"
    ) -> list[ClaimedTask]:
        """Claim up to ``limit`` free due tasks, at most ``queues[q]`` of queue ``q``; by priority, then age.

        ``queues=None`` takes any queue.
        """

    def finish(self, worker: WorkerId, outcome: TaskOutcome) -> bool:
        """End the attempt and post its outcome to the run's inbox. False: stale, nothing was written."""

    def finish_keyed(self, worker: WorkerId, outcome: TaskOutcome, *, key: str) -> tuple[bool, str]:
        """Like ``finish`` for a success under an idempotency key; the first result ever stored wins.

        Returns (whether the claim still held, the winner's payload).
        """

    def find_result(self, activity: str, key: str) -> str | None:
        """Return the payload stored under an activity's idempotency key."""

    def retry(self, worker: WorkerId, task: ClaimedTask, *, failure: Failure, delay: timedelta) -> bool:
        """Free the task for its next attempt after ``delay``. False: stale."""

    def progress(self, worker: WorkerId, task: ClaimedTask, *, details: str | None) -> bool:
        """Record a heartbeat with details (None leaves the old ones). False: the claim is gone, stop the body."""

    def held(self, worker: WorkerId) -> list[ClaimedTask]:
        """Return every task this worker has claimed."""

    def put_back(self, worker: WorkerId, tasks: Sequence[ClaimedTask | TaskRef]) -> int:
        """Free claimed tasks that have not begun, at the same attempt; return how many."""

    def transaction(self, worker: WorkerId) -> AbstractContextManager[TransactionalTask]:
        """Open a transaction for a transactional activity; an exception undoes it."""

    def of_run(self, run_id: RunId) -> list[TaskRecord]:
        """Return the run's task rows, by command."""

    # -- external executors: rows are dispatched (marked, then published), and claimed by whoever gets the message

    def dispatch(
        self, worker: WorkerId, *, executor: str, rooms: Mapping[str, int], room: int, limit: int, deadline: timedelta
    ) -> Dispatches:
        """Mark free due tasks of an executor as dispatched by this worker: by priority, then age.

        At most ``rooms[q]`` of queue ``q`` (``room`` of one not named), ``limit`` in all. The deadline doubles with
        each dispatch of an attempt, up to ``LONGEST_DISPATCH_DEADLINE``. Marks nothing if the worker is not alive.
        """

    def undelivered(self, worker: WorkerId, *, executor: str) -> list[TaskRef]:
        """Return what this worker has dispatched and nobody has claimed."""

    def claim_dispatched(self, worker: WorkerId, refs: Sequence[TaskRef]) -> list[ClaimedTask]:
        """Claim named tasks that are dispatched, or available again, at just that attempt.

        The attempt may last its policy's timeout, and be silent for its heartbeat timeout, each plus ``ATTEMPT_GRACE``;
        then the reaper ends it. Claims nothing if the worker is not alive. A ref without a claim is stale: a duplicate,
        an attempt that is over, a task nobody waits for.
        """

    def finish_many(self, worker: WorkerId, outcomes: Sequence[TaskOutcome]) -> frozenset[TaskRef]:
        """End attempts and post their outcomes, all in one statement; return those that were accepted.

        Beside this worker's claims a *success* is accepted late: while the task exists, at the same or a later attempt
        that nobody has begun. A late failure never is.
        """

    def defer(self, refs: Sequence[TaskRef], *, delay: timedelta) -> int:
        """Offer dispatched tasks again after ``delay``, at the same attempt; return how many were still dispatched."""

    def abandon(self, worker: WorkerId, ref: TaskRef, *, failure: Failure) -> bool:
        """The process that ran this attempt died: offer the next attempt, or fail the task if none is left.

        None is left either after a timeout, if the task gives up. ``failure.attempts`` and the message are the
        caller's. False: stale, nothing was written.
        """

    def hand_over(self, worker: WorkerId) -> int:
        """Leave what this worker has published behind: dispatched by nobody, offered again only at its deadline."""


class Workers(Protocol):
    """Leases of processes, death, sweep, loaded versions."""

    def register(self, info: WorkerInfo) -> None:
        """Write the worker's row; its lease begins."""

    def beat(self, worker: WorkerId, ttl: timedelta) -> bool:
        """Prolong the lease. False: the row is gone, the worker is dead and must take a new id."""

    def withdraw(self, worker: WorkerId) -> None:
        """Say that the worker claims no more runs: others need not leave any to the code that it has loaded."""

    def deregister(self, worker: WorkerId) -> None:
        """Delete the row of a worker that holds nothing any more (what it still holds is swept)."""

    def reap(self, *, limit: int = 1000) -> Reaped:
        """Delete expired workers' rows, then free up to ``limit`` runs and tasks whose holder does not exist."""

    def list_workers(self) -> list[WorkerRecord]:
        """Return all rows."""

    def record_versions(self, versions: Sequence[WorkflowVersion]) -> None:
        """Make the versions known, with their source; known ones are left alone."""

    def source_of(self, name: str, version_hash: str) -> str | None:
        """Return the stored source text of a version."""

    def list_versions(self) -> list[RecordedVersion]:
        """Return all code that is on record or that open runs are pinned to, by name, version and age.

        Reads the table of runs through.
        """

    def retire_versions(self, versions: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Delete the records of those (name, hash) that no open run is pinned to and no worker has loaded; say which.

        Reads the table of runs through.
        """

    def revive(self, workflows: Sequence[tuple[str, int]]) -> int:
        """Make runs of these workflows and versions that are stuck due, the longest stuck at once; return how many.

        They come due one after the other, so that those which work need not wait for all of them. Runs that took
        dispatchers down are left to their back-off.
        """


class Upkeep(Protocol):
    """What has to be done now and then, whoever does it."""

    def ensure_partitions(self, *, months_ahead: int) -> Sequence[str]:
        """Create missing event partitions from the present month on; return the names of the new ones."""

    def misplaced_events(self) -> int:
        """Return how many events sit in the default partition (capped at 1,000); it should be empty."""

    def discard_dead_mail(self, *, limit: int = 1000) -> int:
        """Delete mail of ended chains and record it as undeliverable; return how much."""


class Journal(Protocol):
    """One store of histories, opened by :func:`continuum.journal.open.open_journal`."""

    clock: DatabaseClock
    runs: Runs
    tasks: Tasks
    workers: Workers
    upkeep: Upkeep
    snapshots: Snapshots

    def check(self) -> datetime:
        """Return the database's time. Raises ``JournalUnavailable``, ``SchemaOutdated``, ``ConfigError``."""

    def open_line(self) -> Line:
        """Return a new pinned connection for requests."""

    def open_ears(self, kinds: Sequence[HintKind]) -> Ears:
        """Return a new pinned connection that hears these kinds of hints."""

    def hint(self, hint: Hint) -> None:
        """Send a hint, best effort: never raises, never waits for an answer longer than needed."""

    def close(self) -> None:
        """Close every connection this journal opened, lines and ears included."""
