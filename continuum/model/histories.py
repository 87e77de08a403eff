"""Here lives the form in which the history of one run leaves the database: a JSON text, an event on each line.

What is read back is what was stored, to the letter: payloads travel as they are. ``format`` says how the text is to be
read; a later release reads every earlier one.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from continuum.errors import HistoryError
from continuum.model.events import Event
from continuum.model.ids import ChainId, RunId
from continuum.model.runs import Run

__all__ = ["HISTORY_FORMAT", "RecordedRun", "dump_history", "load_history", "record"]

HISTORY_FORMAT: Final = 1


class RecordedRun(msgspec.Struct, frozen=True, kw_only=True):
    """The history of one run, and what has to be known of the run to replay it.

    :ivar version: declared version the run is pinned to.
    :ivar version_hash: fingerprint of the code that it last ran, None if unknown.
    :ivar state: of the run when it was written down, None if unknown.
    :ivar events: from ``run_started`` on, without a gap.
    """

    run_id: RunId
    chain_id: ChainId
    namespace: str
    workflow: str
    version: int
    version_hash: str | None = None
    parent_id: RunId | None = None
    state: str | None = None
    events: tuple[Event, ...]


def record(run: Run, events: Iterable[Event]) -> RecordedRun:
    """Return a run, as its row and its events were read, as it is written down."""
    return RecordedRun(
        run_id=run.id,
        chain_id=run.chain_id,
        namespace=run.namespace,
        workflow=run.workflow,
        version=run.version,
        version_hash=run.version_hash,
        parent_id=run.parent_id,
        state=str(run.state),
        events=tuple(events),
    )


class _Line(msgspec.Struct, omit_defaults=True):
    type: str
    at: int
    command: int | None = None
    name: str | None = None
    payload: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    location: str | None = None


class _File(msgspec.Struct, kw_only=True):
    format: int
    run_id: RunId
    chain_id: ChainId
    namespace: str
    workflow: str
    version: int
    version_hash: str | None = None
    parent_id: RunId | None = None
    state: str | None = None
    events: list[_Line] = []


_decode = msgspec.json.Decoder(_File).decode
_decode_format = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def dump_history(recorded: RecordedRun) -> str:
    """Return the text of a history."""
    head = {name: getattr(recorded, name) for name in RecordedRun.__struct_fields__ if name != "events"}
    shown = msgspec.json.format(msgspec.json.encode({"format": HISTORY_FORMAT, **head}), indent=2).decode()
    lines = ",\n    ".join(msgspec.json.encode(_line(event)).decode() for event in recorded.events)
    return f'{shown[:-2]},\n  "events": [\n    {lines}\n  ]\n}}\n'


def load_history(text: str | bytes) -> RecordedRun:
    """Return the history that `dump_history` wrote. Raises ``HistoryError``."""
    try:
        written = bytes(_decode_format(text).get("format", b"nothing")).decode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise HistoryError(f"this is not a history as dump_history writes one: {error}") from None
    try:
        number = int(written)
    except ValueError:
        message = f"this is not a history as dump_history writes one: its format is {written[:40]}, not a number"
        raise HistoryError(message) from None
    if number != HISTORY_FORMAT:
        raise HistoryError(f"the history has format {number}, and this release reads {HISTORY_FORMAT}: upgrade it.")
    try:
        found = _decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise HistoryError(f"this is not a history as dump_history writes one: {error}") from None
    events = tuple(
        Event(
            seq,
            line.type,  # type: ignore[arg-type] # as the journal loads it: plain text
            line.command,
            line.name,
            None if line.payload is msgspec.UNSET else bytes(line.payload).decode(),
            line.at,
            line.location,
        )
        for seq, line in enumerate(found.events, 1)
    )
    if not events or events[0].type != "run_started":
        raise HistoryError("a history begins with run_started, and this one does not.")
    head = {name: getattr(found, name) for name in RecordedRun.__struct_fields__ if name != "events"}
    return RecordedRun(**head, events=events)


def _line(event: Event) -> _Line:
    payload = msgspec.UNSET if event.payload is None else msgspec.Raw(event.payload.encode())
    return _Line(str(event.type), event.at, event.command, event.name, payload, event.location)
