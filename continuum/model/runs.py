"""Here live the values that describe a run from outside."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from continuum.model.ids import ChainId, RunId, WorkerId

__all__ = ["ENDED", "LOOP_VERSION", "NewRun", "ParentClose", "ParentLink", "Run", "RunState", "Started"]

# Raise it when the event loop would order anything differently for the same history; the old order must stay.
LOOP_VERSION: Final = 1


class RunState(StrEnum):
    """Where a run stands. The text is what the database stores."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    STUCK = "stuck"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    CONTINUED = "continued"


ENDED: Final = frozenset(
    {
        RunState.COMPLETED,
        RunState.FAILED,
        RunState.CANCELLED,
        RunState.TERMINATED,
        RunState.CONTINUED,
    }
)


class ParentClose(StrEnum):
    """What becomes of a child when its parent ends before it. The text is what the database stores."""

    CANCEL = "cancel"
    TERMINATE = "terminate"
    ABANDON = "abandon"


class ParentLink(msgspec.Struct, frozen=True, gc=False):
    """Which command of which run started a child."""

    run_id: RunId
    command: int


class Started(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of ``run_started``: all a run was started with.

    A default is not written: it is, for ever, what the payloads mean that do not say otherwise. It never changes.

    :ivar input: the encoded arguments, verbatim.
    :ivar seed: hex text from which ``uuid4()`` and ``random()`` draw.
    :ivar loop_version: the `LOOP_VERSION` of who started it.
    :ivar max_payload: largest payload, in bytes of UTF-8, its code may ask to store. Kept with the run, because
        refusing one is something that the code sees and that a replay has to repeat.
    :ivar depth: how many runs above it were started by each other; 0 for a run that no run started.
    :ivar max_depth: the greatest depth a child may have, kept with the run for the same reason.
    :ivar family: whether an earlier run of its chain has started children.
    :ivar signals: (name, payload) of signals that the run before it in its chain had received and not taken.
    """

    input: msgspec.Raw
    seed: str
    loop_version: int = 1
    codec_version: int = 1
    max_payload: int = 2 * 1024 * 1024
    depth: int = 0
    max_depth: int = 10
    family: bool = False
    signals: tuple[tuple[str, msgspec.Raw], ...] = ()

    def encode(self) -> str:
        """Return the JSON text to store."""
        return _encode(self).decode()

    @staticmethod
    def parse(payload: str) -> "Started":
        """Return what a ``run_started`` event says."""
        return _parse(payload)


_encode = msgspec.json.Encoder().encode
_parse = msgspec.json.Decoder(Started).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run about to be written by ``start``.

    :ivar started: payload of ``run_started``.
    :ivar attributes: JSON object text to search by, or None.
    :ivar idempotency_key: unique per namespace and workflow; a second start with it finds the first run.
    """

    id: RunId
    namespace: str
    workflow: str
    version: int
    version_hash: str
    started: str
    attributes: str | None = None
    idempotency_key: str | None = None
    trace_context: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as any client sees it. Times are aware UTC datetimes on the database's clock.

    :ivar last_seq: sequence number of its last event.
    :ivar wake_at: when a timer (or a back-off) makes it move next.
    :ivar grants: claims since it last made progress.
    :ivar stuck_since: when it was first set aside without having made progress since.
    :ivar parent_id: the run that started it as a child; the whole chain of a child has it.
    :ivar parent_chain_id: that run's chain.
    :ivar parent_command: number of the ``child_started`` command there.
    :ivar parent_close: what becomes of it when that chain ends first.
    """

    id: RunId
    chain_id: ChainId
    namespace: str
    workflow: str
    version: int
    version_hash: str
    state: RunState
    last_seq: int
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    wake_at: datetime | None
    retention_until: datetime | None
    stuck_reason: str | None
    cancel_requested_at: datetime | None
    idempotency_key: str | None
    trace_context: str | None
    lease_owner: WorkerId | None
    lease_token: int
    grants: int
    is_tip: bool
    parent_id: RunId | None
    parent_chain_id: ChainId | None
    parent_command: int | None
    parent_close: ParentClose | None
    continued_from: RunId | None
    attributes: dict[str, Any]
    stuck_since: datetime | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will ever happen to it again."""
        return self.state in ENDED

    @property
    def duration(self) -> timedelta | None:
        """Time from creation to end; None while it goes on."""
        return None if self.completed_at is None else self.completed_at - self.created_at
