"""Here lives what a dispatcher's turns thread asks of the journal, and what it hears back.

Requests and replies are values, so that a line can send one and fetch the other later, a test can hold one back
and let it land late, and the memory wing can execute them as they are.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

import msgspec

from continuum.model.decisions import Commit
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import ClaimedRun, Grant, GrantState
from continuum.model.messages import Message

__all__ = [
    "ClaimReply",
    "ClaimRequest",
    "CommitReply",
    "CommitRequest",
    "Hint",
    "HintKind",
    "HintRequest",
    "InspectReply",
    "InspectRequest",
    "LookReply",
    "LookRequest",
    "MailReply",
    "MailRequest",
    "RegrantRequest",
    "ReleaseReply",
    "ReleaseRequest",
    "Reply",
    "Request",
    "StickRequest",
]


# ------------------------------------------------------------------ hints


class HintKind(StrEnum):
    """What has changed. The first three are for dispatchers, the last for waiting clients."""

    START = "start"
    MAIL = "mail"
    TASKS = "tasks"
    DONE = "done"


class Hint(msgspec.Struct, frozen=True):
    """One heard hint; ``run_ids`` only with ``DONE``, and perhaps not complete."""

    kind: HintKind
    run_ids: tuple[str, ...] = ()


# ------------------------------------------------------------------ requests of the turns thread


class CommitRequest(msgspec.Struct, frozen=True):
    """The group commit: each run at most once. Waits for nobody; writes each run wholly or not at all.

    :ivar dispatch_deadline: how long tasks inserted as dispatched may stay unclaimed before they are offered again.
    """

    worker: WorkerId
    commits: Sequence[Commit]
    dispatch_deadline: timedelta = timedelta(seconds=60)


class CommitReply(msgspec.Struct, frozen=True):
    """The runs that were written. A missing one was locked by somebody, fenced, or lost a task claim: inspect it."""

    written: frozenset[str]


class ClaimRequest(msgspec.Struct, frozen=True):
    """Claim up to ``limit`` free runs that are due or have mail, of the given workflows; load them.

    Claims nothing if the worker's own lease has expired. A run that is pinned to other code of its workflow and version
    is left alone while a living worker has just that code loaded (or may have: one that says of none what it has).

    :ivar workflows: (name, version) of the code that is loaded; runs of others are left alone.
    :ivar hashes: the hash of each of them, in their order; where one is missing every run's code is other code.
    """

    worker: WorkerId
    workflows: tuple[tuple[str, int], ...]
    limit: int
    hashes: tuple[str, ...] = ()


class RegrantRequest(msgspec.Struct, frozen=True):
    """Take a fresh token for runs that are still mine under the given tokens, and load them.

    Waits for (and thereby fences) a commit of ours whose answer was lost.
    """

    worker: WorkerId
    grants: tuple[Grant, ...]


class ClaimReply(msgspec.Struct, frozen=True):
    """Runs now held, loaded."""

    runs: list[ClaimedRun]


class MailRequest(msgspec.Struct, frozen=True):
    """Read up to ``limit`` messages for runs this worker owns, oldest id first; consumes nothing."""

    worker: WorkerId
    limit: int


class MailReply(msgspec.Struct, frozen=True):
    """Messages; those that an unacknowledged commit consumes may be among them."""

    messages: list[Message]


class LookRequest(msgspec.Struct, frozen=True):
    """The floor poll: one statement that finds whatever a lost hint should have said.

    :ivar queues: whose free tasks of the local pool to look for; None for any, empty for none.
    :ivar executors: external executors whose free tasks to look for, whatever their queue.
    :ivar hashes: as of a claim.
    """

    worker: WorkerId
    workflows: tuple[tuple[str, int], ...]
    queues: tuple[str, ...] | None
    limit: int
    executors: tuple[str, ...] = ()
    hashes: tuple[str, ...] = ()


class LookReply(msgspec.Struct, frozen=True):
    """What there is to do.

    :ivar messages: mail of runs this worker owns.
    :ivar due: grants of this worker whose ``wake_at`` has passed or which have mail (known to it, or lost with
        an answer).
    :ivar claimable: whether a claim would find a run.
    :ivar tasks: whether a free task of these queues or executors is due.
    :ivar dead: whether an expired worker, something a dead worker held, or an expired task waits for the reaper.
    """

    messages: list[Message]
    due: list[Grant]
    claimable: bool
    tasks: bool
    dead: bool


class InspectRequest(msgspec.Struct, frozen=True):
    """Read the grants of runs that were missing in a commit's answer."""

    run_ids: tuple[RunId, ...]


class InspectReply(msgspec.Struct, frozen=True):
    """The rows found; a run without one does not exist."""

    states: list[GrantState]


class ReleaseRequest(msgspec.Struct, frozen=True):
    """Give runs back; their tokens rise, their ``wake_at`` stays."""

    worker: WorkerId
    grants: tuple[Grant, ...]


class ReleaseReply(msgspec.Struct, frozen=True):
    """The runs that were ours to give."""

    released: frozenset[str]


class StickRequest(msgspec.Struct, frozen=True):
    """Mark a run of mine ``stuck``, give it back, and let it be claimed again only after ``backoff``.

    The reply is a :class:`ReleaseReply`.

    :ivar grants: what its count of grants without progress becomes. 0: this worker survived it.
    :ivar longest: up to this the back-off grows with the time for which it has been stuck, counted anew whenever a
        dispatcher of its workflow starts: code that has just arrived may be what helps. None: it does not grow.
    """

    worker: WorkerId
    grant: Grant
    reason: str
    backoff: timedelta
    grants: int = 0
    longest: timedelta | None = None


class HintRequest(msgspec.Struct, frozen=True):
    """Send hints. The reply is an empty :class:`ReleaseReply`."""

    hints: tuple[Hint, ...]


Request = (
    CommitRequest
    | ClaimRequest
    | RegrantRequest
    | MailRequest
    | LookRequest
    | InspectRequest
    | ReleaseRequest
    | StickRequest
    | HintRequest
)
Reply = CommitReply | ClaimReply | MailReply | LookReply | InspectReply | ReleaseReply
