"""Here live the rows of the memory wing's tables, its descriptors, and the rules of what a column accepts."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from continuum.errors import JournalError
from continuum.journal.requests import Hint, HintKind
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.runs import ENDED, ParentClose, Run, RunState

__all__ = ["EarsRow", "Pipe", "RunRow", "WorkerRow", "check_json", "check_text", "micros", "moment", "read_attributes"]

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def check_text(what: str, text: str | None) -> None:
    """Refuse what a text column cannot hold: NUL, and surrogates that are no character."""
    if text is None:
        return
    if "\0" in text:
        message = f"{what} holds a NUL character, which no text column can: {text[:80]!r}"
        raise JournalError(message)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            message = f"{what} holds half a surrogate pair, which is no text: {text[:80]!r}"
            raise JournalError(message) from error


def check_json(what: str, payload: str | None) -> None:
    """Refuse what a ``json`` column would refuse."""
    if payload is None:
        return
    check_text(what, payload)
    try:
        _validate(payload)
    except msgspec.DecodeError as error:
        message = f"{what} is not JSON ({error}): {payload[:80]!r}"
        raise JournalError(message) from error


_validate = msgspec.json.Decoder(msgspec.Raw).decode


def read_attributes(what: str, payload: str) -> dict[str, Any]:
    """Return attributes; refuse what a ``jsonb`` column would refuse, and what is no object."""
    check_json(what, payload)
    try:
        attributes = _read_object(payload)
    except msgspec.ValidationError as error:
        message = f"{what} are no JSON object: {payload[:80]!r}"
        raise JournalError(message) from error
    # Unlike payloads they are values, and a value cannot hold NUL.
    for text in _texts(attributes):
        check_text(what, text)
    return attributes


_read_object = msgspec.json.Decoder(dict[str, Any]).decode


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            pass


def moment(at: int) -> datetime:
    """Return microseconds since the epoch as an aware datetime."""
    return _EPOCH + at * _MICROSECOND


def micros(span: timedelta) -> int:
    """Return a duration in microseconds."""
    return span // _MICROSECOND


def _optional_moment(at: int | None) -> datetime | None:
    return None if at is None else moment(at)


class Pipe:
    """A readable descriptor that can be made readable and quiet again, on any system."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._rung = False

    def fileno(self) -> int:
        """Return the readable end."""
        return self._read

    def ring(self) -> None:
        """Make it readable. At most one byte is ever in it, so it cannot fill up."""
        if not self._rung:
            self._rung = True
            os.write(self._write, b"!")

    def quiet(self) -> None:
        """Make it unreadable."""
        if self._rung:
            self._rung = False
            os.read(self._read, 1)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read)
        os.close(self._write)


# ------------------------------------------------------------------ rows


class RunRow(msgspec.Struct, kw_only=True):
    """A row of ``continuum_runs`` with its attributes; times in microseconds."""

    id: RunId
    chain_id: ChainId
    namespace: str
    workflow: str
    version: int
    version_hash: str
    created_at: int
    wake_at: int | None
    attributes: dict[str, Any]
    idempotency_key: str | None = None
    trace_context: str | None = None
    state: RunState = RunState.PENDING
    last_seq: int = 1
    started_at: int | None = None
    completed_at: int | None = None
    retention_until: int | None = None
    stuck_reason: str | None = None
    stuck_since: int | None = None
    cancel_requested_at: int | None = None
    owner: WorkerId | None = None
    token: int = 0
    grants: int = 0
    is_tip: bool = True
    parent_id: RunId | None = None
    parent_chain_id: ChainId | None = None
    parent_command: int | None = None
    parent_close: ParentClose | None = None
    continued_from: RunId | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing will ever happen to it again."""
        return self.state in ENDED

    def seen(self) -> Run:
        """Return the run as clients see it."""
        return Run(
            id=self.id,
            chain_id=self.chain_id,
            namespace=self.namespace,
            workflow=self.workflow,
            version=self.version,
            version_hash=self.version_hash,
            state=self.state,
            last_seq=self.last_seq,
            created_at=moment(self.created_at),
            started_at=_optional_moment(self.started_at),
            completed_at=_optional_moment(self.completed_at),
            wake_at=_optional_moment(self.wake_at),
            retention_until=_optional_moment(self.retention_until),
            stuck_reason=self.stuck_reason,
            stuck_since=_optional_moment(self.stuck_since),
            cancel_requested_at=_optional_moment(self.cancel_requested_at),
            idempotency_key=self.idempotency_key,
            trace_context=self.trace_context,
            lease_owner=self.owner,
            lease_token=self.token,
            grants=self.grants,
            is_tip=self.is_tip,
            parent_id=self.parent_id,
            parent_chain_id=self.parent_chain_id,
            parent_command=self.parent_command,
            parent_close=self.parent_close,
            continued_from=self.continued_from,
            attributes=dict(self.attributes),
        )


class WorkerRow(msgspec.Struct):
    """A row of ``continuum_workers``."""

    id: WorkerId
    hostname: str
    pid: int
    started_at: int
    expires_at: int
    workflows: tuple[str, ...]
    version_hashes: tuple[str, ...]


class EarsRow(msgspec.Struct):
    """One pair of ears: what it listens for, what it has heard, and how it is told."""

    kinds: frozenset[HintKind]
    heard: list[Hint]
    pipe: Pipe
