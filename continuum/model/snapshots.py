"""Here lives the snapshot: the beginning of a history, folded into one text that loads faster than its rows.

It holds events and nothing else: no variable, no coroutine, nothing of the code. The beginning of a history never
changes once it is written, so a snapshot is right for ever, whatever code the run is continued with and whoever holds
the run. It can be missing, or go, at any moment: the rows it copies stay where they are.

The text is JSON, in columns. What repeats (type, name and place of an event) is written once and referred to by number;
times are differences; payloads stand as they are in the journal. ``format`` says how to read it.
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Final

import msgspec

from continuum.errors import HistoryError
from continuum.model.events import Event, EventType

__all__ = ["SNAPSHOT_FORMAT", "Snapshot", "decode_snapshot", "encode_snapshot", "is_readable"]

SNAPSHOT_FORMAT: Final = 1
"""What this release writes. It reads every earlier one."""


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """A folded beginning of a history, as a journal keeps it.

    :ivar through_seq: sequence number of the last event it holds; the first is 1.
    :ivar format: how ``body`` is to be read.
    """

    through_seq: int
    format: int
    body: str


_Natural = Annotated[int, msgspec.Meta(ge=0)]


class _Columns(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Columns of equal length, an event in each place; ``shapes`` are the (type, name, location) that occur."""

    shapes: list[tuple[str, str | None, str | None]]
    shape: list[_Natural]
    command: list[int | None]
    payload: list[str | None]
    at: list[int]


_read: Final = msgspec.json.Decoder(_Columns).decode
_encode: Final = msgspec.json.encode


def encode_snapshot(events: Sequence[Event]) -> Snapshot:
    """Return the snapshot of a history's beginning. Raises ``HistoryError`` if it is none, or has a gap."""
    if not events or events[0].type != EventType.RUN_STARTED:
        raise HistoryError("a snapshot begins with run_started, and these events do not.")
    if [event.seq for event in events] != list(range(1, len(events) + 1)):
        raise HistoryError("a snapshot holds the events of a history from 1 on, and these have a gap.")
    known: dict[tuple[str, str | None, str | None], int] = {}
    number = known.setdefault
    shape = [number((str(event.type), event.name, event.location), len(known)) for event in events]
    times = [event.at for event in events]
    columns = _Columns(
        shapes=list(known),
        shape=shape,
        command=[event.command for event in events],
        payload=[event.payload for event in events],
        at=[times[0], *[after - before for before, after in pairwise(times)]],
    )
    return Snapshot(len(events), SNAPSHOT_FORMAT, _encode(columns).decode())


def decode_snapshot(snapshot: Snapshot) -> list[Event]:
    """Return the events of a snapshot. Raises ``HistoryError`` if they cannot be had."""
    if not is_readable(snapshot.format):
        raise HistoryError(
            f"the snapshot has format {snapshot.format}, and this release reads {SNAPSHOT_FORMAT}: upgrade it."
        )
    try:
        columns = _read(snapshot.body)
        events = _events_of(columns)
    except (msgspec.MsgspecError, IndexError, UnicodeError) as error:
        raise HistoryError(f"this is no snapshot: {error}") from None
    lengths = {len(column) for column in (columns.shape, columns.command, columns.payload, columns.at)}
    if lengths != {snapshot.through_seq} or not events or events[0].type != EventType.RUN_STARTED:
        raise HistoryError(f"this is no snapshot of {snapshot.through_seq} events: its columns have {sorted(lengths)}.")
    return events


def is_readable(number: int) -> bool:
    """Whether this release reads the format of this number."""
    return 1 <= number <= SNAPSHOT_FORMAT


def _events_of(columns: _Columns) -> list[Event]:
    types, names, places = zip(*columns.shapes, strict=True) if columns.shapes else ((), (), ())
    return list(
        map(
            Event,
            range(1, len(columns.shape) + 1),
            _picked(types, columns.shape),
            columns.command,
            _picked(names, columns.shape),
            columns.payload,
            accumulate(columns.at),
            _picked(places, columns.shape),
        )
    )


def _picked(words: Sequence[object], numbers: Iterable[int]) -> Iterable[object]:
    return map(words.__getitem__, numbers)
