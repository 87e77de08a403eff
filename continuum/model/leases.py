"""Here live the values of ownership: workers, grants, and what a grant comes with."""

from datetime import timedelta
from typing import Final

import msgspec

from continuum.model.events import Event
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.messages import Message
from continuum.model.runs import ParentLink

__all__ = [
    "WITHDRAWN",
    "ClaimedRun",
    "Grant",
    "GrantState",
    "Reaped",
    "RecordedVersion",
    "WorkerInfo",
    "WorkerRecord",
    "WorkflowVersion",
    "code_mark",
    "read_mark",
]

WITHDRAWN: Final = ("",)
"""The marks of a dispatcher that takes no more runs: some, but those of no code."""


def code_mark(workflow: str, version: int, version_hash: str) -> str:
    """Return the text under which a worker's row lists code that it has loaded.

    >>> code_mark("order", 1, "c0ffee")
    'c0ffee 1 order'
    """
    return f"{version_hash} {version} {workflow}"


def read_mark(mark: str) -> tuple[str, int, str] | None:
    """Return (workflow, version, hash) of a mark, None if it is that of no code."""
    version_hash, _, rest = mark.partition(" ")
    version, _, workflow = rest.partition(" ")
    return (workflow, int(version), version_hash) if version.isdecimal() and workflow else None


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
    :ivar parent: who started it as a child, None if nobody.
    :ivar folded: how many of the events its snapshot has given.
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
    parent: ParentLink | None = None
    folded: int = 0


class WorkerInfo(msgspec.Struct, frozen=True):
    """What a process says about itself when it registers.

    :ivar ttl: how long its lease lives after each heartbeat.
    :ivar workflows: names of those it turns; empty for a worker of an executor.
    :ivar version_hashes: the marks (`code_mark`) of the code it turns them with. Others leave runs of that very code to
        it. A release before these has none, and may have loaded any code of its workflows.
    """

    id: WorkerId
    hostname: str
    pid: int
    ttl: timedelta
    queues: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    version_hashes: tuple[str, ...] = ()


class WorkerRecord(msgspec.Struct, frozen=True):
    """A worker row as an operator sees it. Times are microseconds since the epoch.

    :ivar turns: whether it knows workflows to turn: a dispatcher, and no worker of an executor.
    :ivar version_hashes: the marks of the code it has loaded; `WITHDRAWN` while it is drained.
    """

    id: WorkerId
    hostname: str
    pid: int
    started_at: int
    expires_at: int
    alive: bool
    turns: bool = True
    version_hashes: tuple[str, ...] = ()


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
    :ivar signals: the contract of its signals as JSON text, None for an open inbox: see `continuum.model.contracts`.
    """

    name: str
    version: int
    hash: str
    source: str
    retention_us: int | None = None
    signals: str | None = None


class RecordedVersion(msgspec.Struct, frozen=True):
    """Code that is on record, or that open runs are pinned to, or both.

    :ivar first_seen_at: when a dispatcher first had it loaded, in microseconds since the epoch; None: none ever had.
    :ivar open_runs: runs pinned to it that have not ended.
    :ivar stuck_runs: those of them that are stuck.
    """

    workflow: str
    version: int
    hash: str
    first_seen_at: int | None
    open_runs: int = 0
    stuck_runs: int = 0
