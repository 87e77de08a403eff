"""Here lives the end of a run: what it ended with, whether that is what was recorded, and what its family hears of it.

A run that ends, or is asked to cancel, tells its children in the same commit. Those that exist already are found by the
journal (`Cascade`); those that the very same decision creates do not exist yet, and get a letter each.
"""

import asyncio
import re
from typing import Any, Final

import msgspec

from continuum.errors import ReplayDriftError
from continuum.model.codec import CODEC_VERSION, check_size, same_payload
from continuum.model.decisions import Cascade, Letter, Successor
from continuum.model.events import Event, EventType
from continuum.model.failures import Failure, FailureKind, describe_exception
from continuum.model.ids import ChainId, derive_run_id
from continuum.model.runs import LOOP_VERSION, ParentClose, Started
from continuum.replay.differences import compare_payloads
from continuum.replay.drift import drift
from continuum.replay.effects.continue_as_new import find_continuation
from continuum.replay.entry import Entry
from continuum.replay.loop import DeterministicLoop

__all__ = ["ask_children", "close_children", "end_drift", "make_successor", "outcome_of", "same_end"]

_ADDRESS: Final = re.compile(r"0x[0-9a-f]+")
_CONTINUED: Final = "continued"
_WHAT: Final[dict[str, str]] = {EventType.RUN_COMPLETED: "result", EventType.RUN_CONTINUED: "input"}

_Ending = tuple[EventType, str | None]


def outcome_of(main: asyncio.Task[Any], entry: Entry, *, limit: int, cancelling: bool) -> _Ending:
    """Return how a run has ended whose main task is done.

    :param limit: largest result, in bytes of UTF-8.
    :param cancelling: whether the run had been asked to cancel.
    """
    if main.cancelled():
        if cancelling:
            return EventType.RUN_CANCELLED, None
        try:
            main.result()
        except asyncio.CancelledError as stray:
            failure = describe_exception(stray)
            message = failure.message or "the workflow ended by CancelledError, but nobody had cancelled the run"
            failure = Failure(failure.type_name, message, failure.traceback, kind=FailureKind.CANCELLED)
            return EventType.RUN_FAILED, failure.encode()
    error = main.exception()
    if error is None:
        try:
            payload = entry.encode_result(main.result())
            check_size(payload, limit, "result")
        except Exception as refused:  # noqa: BLE001 - CodecError, or what a user's type raises while it is encoded
            error = refused
        else:
            return EventType.RUN_COMPLETED, payload
    else:
        continuation = find_continuation(error)
        if continuation is not None:
            return EventType.RUN_CONTINUED, continuation.payload
    return EventType.RUN_FAILED, describe_exception(error).encode()


def same_end(kind: EventType, recorded: str | None, ours: str | None) -> bool:
    """Say whether two payloads of one kind of terminal event tell of the same end."""
    if recorded is None or ours is None:
        return recorded == ours
    if kind == EventType.RUN_FAILED:
        # A traceback differs by how the await was resumed, a message by the addresses of objects.
        theirs, mine = Failure.parse(recorded), Failure.parse(ours)
        return theirs.type_name == mine.type_name and _masked(theirs.message) == _masked(mine.message)
    return recorded == ours or same_payload(recorded, ours)


def _masked(message: str) -> str:
    return _ADDRESS.sub("0x", message)


def end_drift(
    number: int, recorded: Event, kind: EventType | None = None, payload: str | None = None
) -> ReplayDriftError:
    """Return the error of code that does not end as its history does; without a ``kind``, of code that goes on."""
    was = _ending(recorded.type, recorded.payload)
    if kind is None:
        advice = "The run had ended here, and the code waits for something more."
        return drift(number, was, "more: the code is still waiting", advice=advice)
    difference = ""
    if recorded.type == kind and kind != EventType.RUN_FAILED:
        difference = compare_payloads(recorded.payload, payload, what=_WHAT.get(kind, ""))
    advice = "The run has ended already: what it ended with was changed, or is computed otherwise."
    return drift(number, was, _ending(kind, payload), difference=difference, advice=advice)


def _ending(kind: str, payload: str | None) -> str:
    """Return how a run ended, for a person."""
    if payload is None:
        return f"the end of the run ({kind})"
    if kind == EventType.RUN_FAILED:
        failure = Failure.parse(payload)
        return f"the end of the run ({kind}: {failure.type_name}: {failure.message[:200]})"
    return f"the end of the run ({kind} with {payload[:200]})"


# -- the family --------------------------------------------------------------------------------------------------------


def ask_children(loop: DeterministicLoop) -> None:
    """Pass a cancel request on to the open children; on replay only note that it was."""
    ledger = loop.ledger
    for command, child in loop.children.items():
        if child.on_parent_close is ParentClose.ABANDON or child.asked:
            continue
        child.asked = True
        if command in ledger.children:
            ledger.letters.append(Letter(ChainId(child.id), EventType.CANCEL_REQUESTED))
    if ledger.live and _has_older_children(loop):
        ledger.cascade = Cascade.CANCEL


def close_children(loop: DeterministicLoop) -> None:
    """Tell the children that the run has ended: each what its policy says."""
    ledger = loop.ledger
    told = {letter.chain_id for letter in ledger.letters if letter.kind == EventType.CANCEL_REQUESTED}
    for order in ledger.children.values():
        chain = ChainId(order.id)
        if order.close is ParentClose.TERMINATE:
            failure = Failure("Terminated", f"its parent {loop.run.run_id} ended")
            ledger.letters.append(Letter(chain, EventType.RUN_TERMINATED, payload=failure.encode()))
        elif order.close is ParentClose.CANCEL and chain not in told:
            ledger.letters.append(Letter(chain, EventType.CANCEL_REQUESTED))
    if _has_older_children(loop):
        ledger.cascade = Cascade.CLOSE


def _has_older_children(loop: DeterministicLoop) -> bool:
    lineage = loop.ledger.lineage
    return lineage.inherited or lineage.living > len(loop.ledger.children)


def make_successor(loop: DeterministicLoop, payload: str, *, cancelling: bool) -> Successor:
    """Return the run that goes on with this input. It inherits what was sent to this one and not taken.

    Children stay the chain's. A cancel request that this run has had goes to the chain once more, for the successor.
    """
    ledger = loop.ledger
    lineage = ledger.lineage
    if cancelling:
        ledger.letters.append(Letter(loop.run.chain_id, EventType.CANCEL_REQUESTED))
    started = Started(
        input=msgspec.Raw(payload.encode()),
        seed=ledger.derive_seed(_CONTINUED),
        loop_version=LOOP_VERSION,
        codec_version=CODEC_VERSION,
        max_payload=ledger.max_payload,
        depth=lineage.depth,
        max_depth=lineage.max_depth,
        family=lineage.has_children,
        signals=tuple(
            (name, msgspec.Raw(signal.encode()))
            for name, mailbox in loop.mailboxes.items()
            for signal in mailbox.payloads
        ),
    )
    return Successor(derive_run_id(ledger.now, loop.run.run_id, _CONTINUED), started.encode())
