"""Here live the values of ownership: workers, grants, and what a grant comes with."""

from datetime import timedelta

import msgspec

from continuum.model.events import Event
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.messages import Message

__all__ = ["ClaimedRun", "Grant", "GrantState", "Reaped", "WorkerInfo", "WorkerRecord", "WorkflowVersion"]


class Grant(msgspec.Struct, frozen=True, gc=False):
    """The right to write one run, until somebody raises its token."""

    run_id: RunId
    token: int


class GrantState(msgspec.Struct, frozen=True, gc=False):
    """What the run row says about its owner, for whoever missed it in the answer of a commit."""

    run_id: RunId
    owner: WorkerId | None
    token: int
    last_seq: int


class ClaimedRun(msgspec.Struct, frozen=True):
    """A grant with everything needed to continue the run: its whole history and its mail.

    :ivar wake_at: what the row holds, in microseconds since the epoch.
    :ivar grants: claims since it last made progress, this one included.
    :ivar events: by sequence number, from ``run_started`` on.
    :ivar mail: by id.
    :ivar unreadable: why a payload of its history cannot be had; None if all can.
    """

    run_id: RunId
    chain_id: ChainId
    namespace: str
    workflow: str
    version: int
    version_hash: str
    token: int
    last_seq: int
    grants: int
    wake_at: int | None
    events: list[Event]
    mail: list[Message]
    unreadable: str | None = None


class WorkerInfo(msgspec.Struct, frozen=True):
    """What a process says about itself when it registers.

    :ivar ttl: how long its lease lives after each heartbeat.
    """

    id: WorkerId
    hostname: str
    pid: int
    ttl: timedelta
    queues: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker row as an operator sees it. Times are microseconds since the epoch.

    :ivar turns: whether it knows workflows to turn: a dispatcher, and no worker of an executor.
    """

    id: WorkerId
    hostname: str
    pid: int
    started_at: int
    expires_at: int
    alive: bool
    turns: bool = True


class Reaped(msgspec.Struct, frozen=True):
    """What one pass of the reaper did.

    :ivar workers: ids whose expired rows were deleted.
    :ivar runs: how many runs of dead owners were freed.
    :ivar requeued: tasks of dead workers offered again, one attempt later.
    :ivar exhausted: tasks of dead workers without an attempt left, failed by message.
    :ivar reoffered: dispatched tasks that nobody claimed in time, or whose dispatcher is dead, offered again.
    :ivar more: whether a chunk was full, so that another pass has work.
    """

    workers: tuple[WorkerId, ...] = ()
    runs: int = 0
    requeued: int = 0
    exhausted: int = 0
    reoffered: int = 0
    more: bool = False


class WorkflowVersion(msgspec.Struct, frozen=True):
    """One version of a workflow as a dispatcher has it loaded.

    :ivar hash: content hash of the normalised source.
    :ivar source: its source text, kept so that tools can show what a run was started with.
    :ivar retention_us: how long ended runs are kept, in microseconds; None for ever.
    """

    name: str
    version: int
    hash: str
    source: str
    retention_us: int | None = None
