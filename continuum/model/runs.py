"""Here live the values that describe a run from outside."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from continuum.model.ids import ChainId, RunId, WorkerId

__all__ = ["ENDED", "LOOP_VERSION", "NewRun", "Run", "RunState", "Started"]

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


class Started(msgspec.Struct, frozen=True, omit_defaults=True):
    """Payload of ``run_started``: all a run was started with.

    :ivar input: the encoded arguments, verbatim.
    :ivar seed: hex text from which ``uuid4()`` and ``random()`` draw.
    :ivar max_payload: largest payload, in bytes of UTF-8, its code may ask to store. Kept with the run, because
        refusing one is something that the code sees and that a replay has to repeat.
    """

    input: msgspec.Raw
    seed: str
    loop_version: int = LOOP_VERSION
    codec_version: int = 1
    max_payload: int = 2 * 1024 * 1024

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
    continued_from: RunId | None
    attributes: dict[str, Any]

    @property
    def ended(self) -> bool:
        """Whether nothing will ever happen to it again."""
        return self.state in ENDED

    @property
    def duration(self) -> timedelta | None:
        """Time from creation to end; None while it goes on."""
        return None if self.completed_at is None else self.completed_at - self.created_at
