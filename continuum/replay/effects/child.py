"""Here lives the child effect: a run that this run starts, and a future of its end.

Starting is a command, written before the child exists; the commit of the turn creates it. Its id follows from the
parent's and the command, so a turn that is repeated after a crash names the same child.

# Invariant: whether a child has been asked to cancel follows from the history: from notes (``child_cancel_requested``)
and from ``cancel_requested``. So a replay writes no letter a second time.
"""

from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar, overload

import msgspec

from continuum.errors import ChildCancelled, ChildDepthExceeded, ChildFailed, SignalRefused
from continuum.model.codec import CODEC_VERSION, check_size, encode
from continuum.model.contracts import Contract, Mismatch
from continuum.model.decisions import ChildOrder, Letter
from continuum.model.events import EventType
from continuum.model.failures import Failure
from continuum.model.ids import ChainId, RunId, derive_run_id
from continuum.model.names import MAX_NAME, check_effect_name
from continuum.model.runs import LOOP_VERSION, ParentClose, RunState, Started
from continuum.replay.calls import Call
from continuum.replay.effects.base import current_loop
from continuum.replay.ledger import Ledger
from continuum.replay.loop import DeterministicLoop

__all__ = ["ChildHandle", "SignalLike", "start"]

T = TypeVar("T")
V = TypeVar("V")
V_contra = TypeVar("V_contra", contravariant=True)

_STARTED: Final = EventType.CHILD_STARTED
_ASKED: Final = EventType.CHILD_CANCEL_REQUESTED
_SENT: Final = EventType.SIGNAL_SENT
_CANCELLED: Final = EventType.CHILD_CANCELLED.value


class SignalLike(Protocol[V_contra]):
    """A signal by contract, as far as sending needs to know it."""

    @property
    def name(self) -> str:
        """The signal's name."""

    def encode(self, value: V_contra) -> str:
        """Return the payload of a value. Raises ``CodecError``."""


def start(
    name: str,
    payload: str,
    *,
    version: int,
    version_hash: str,
    decode: Callable[[str], Any],
    key: str | None = None,
    on_parent_close: ParentClose = ParentClose.CANCEL,
    attributes: str | None = None,
    contract: Contract | None = None,
) -> "ChildHandle[Any]":
    """Start a child run, and return the future of its end. It runs whether awaited or not.

    :param payload: the encoded input; on replay it must equal the recorded one.
    :param version: of the code the child is pinned to; like its hash, close policy and attributes not compared.
    :param decode: payload of the result to its value; may raise ``CodecError``, which makes the run stuck.
    :param attributes: JSON object text, merged over the parent's.
    :param contract: of the signals the child takes; None for any.

    Raises ``NotInWorkflow``, ``ReplayDriftError``; before anything is recorded ``ChildDepthExceeded``, ``TypeError`` or
    ``ValueError`` for a key that cannot be one or is taken, ``CodecError`` for an input that is too large.
    """
    loop = current_loop(f"child workflow {name}")
    ledger = loop.ledger
    lineage = ledger.lineage
    if key is not None:
        check_effect_name(key, "the key of the child", limit=MAX_NAME)
        if lineage.keys is not None and key in lineage.keys:
            message = f"this run has started a child with the key {key!r} before: the keys of its children must differ"
            raise ValueError(message)
    if lineage.depth >= lineage.max_depth:
        message = (
            f"child {name} was not started: it would be {lineage.depth + 1} deep, and max_child_depth is"
            f" {lineage.max_depth}. Does a workflow start itself without an end? continue_as_new() does that in one"
            " run after the other."
        )
        raise ChildDepthExceeded(message, activity=name, attempts=0)
    check_size(payload, ledger.max_payload, f"input of child {name}")
    number = ledger.upcoming()
    run_id = derive_run_id(ledger.now, loop.run.run_id, str(number))
    label = "" if key is None else f'"key":{_json(key)},'
    command = ledger.issue(_STARTED, name, f'{{"id":"{run_id}",{label}"input":{payload}}}')
    lineage.add(key)
    if command >= ledger.recorded_count:
        started = _started(ledger, payload, run_id)
        ledger.children[command] = ChildOrder(
            run_id, command, name, version, version_hash, started, on_parent_close, attributes
        )
    handle: ChildHandle[Any] = ChildHandle(loop=loop)
    handle.serial = loop.next_serial()
    handle.command = command
    handle.target = name
    handle.undo = None
    handle.decode = decode
    handle.id = run_id
    handle.key = key
    handle.on_parent_close = on_parent_close
    handle.contract = contract
    handle.asked = False
    loop.children[command] = handle
    return handle


def _started(ledger: Ledger, payload: str, run_id: RunId) -> str:
    lineage = ledger.lineage
    return Started(
        input=msgspec.Raw(payload.encode()),
        seed=ledger.derive_seed(run_id),
        loop_version=LOOP_VERSION,
        codec_version=CODEC_VERSION,
        max_payload=ledger.max_payload,
        depth=lineage.depth + 1,
        max_depth=lineage.max_depth,
    ).encode()


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


class ChildHandle(Call[T], Generic[T]):
    """A child run: await it for its result, gather it, wait for it, shield it, signal it, or cancel it.

    Awaiting raises ``ChildFailed`` if the child failed, ``ChildCancelled`` if it was cancelled or terminated; through
    all the runs it continues as. Cancelling the handle, or the task that awaits it, stops waiting at once and asks the
    child to cancel, unless it is to be abandoned.

    :ivar id: the child's run id.
    :ivar key: the label it was given, None for none.
    :ivar on_parent_close: what becomes of it if this run ends first.
    :ivar contract: of the signals it takes, None for any.
    :ivar asked: whether it has been asked to cancel.
    """

    __slots__ = ("asked", "contract", "id", "key", "on_parent_close")
    id: RunId
    key: str | None
    on_parent_close: ParentClose
    contract: Contract | None
    asked: bool

    what = "child"
    success = EventType.CHILD_COMPLETED.value

    @overload
    def signal(self, signal: SignalLike[V], value: V) -> None: ...
    @overload
    def signal(self, signal: SignalLike[None]) -> None: ...
    @overload
    def signal(self, signal: str, value: Any = ...) -> None: ...
    def signal(self, signal: "str | SignalLike[Any]", value: Any = None) -> None:
        """Send the child a signal, by name or by contract. Dropped if the child has ended by then.

        It is sent with the commit of this turn, exactly once. Raises ``CodecError`` for a value that cannot be sent,
        ``SignalRefused`` if the workflow of the child declares its signals, and not this one, or not with such a value,
        ``TypeError`` or ``ValueError`` for what cannot be a signal's name.
        """
        loop = current_loop(f"signal to child {self.target}")
        ledger = loop.ledger
        if isinstance(signal, str):
            name, payload = signal, encode(value, where=f"signal {signal}")
        else:
            name, payload = signal.name, signal.encode(value)
        check_effect_name(name, "the signal's name", limit=MAX_NAME)
        if self.contract is not None:
            fitted = self._fitted(self.contract, name, payload)
            payload = payload if getattr(signal, "is_exact", False) else fitted
        check_size(payload, ledger.max_payload, f"signal {name}")
        command = ledger.issue(_SENT, name, f'{{"to":"{self.id}","value":{payload}}}')
        if command >= ledger.recorded_count:
            ledger.letters.append(Letter(ChainId(self.id), EventType.SIGNAL_RECEIVED, name, payload))

    def _fitted(self, contract: Contract, name: str, payload: str) -> str:
        if name in contract.names:
            try:
                return contract.check(name, payload)
            except Mismatch as mismatch:
                why = f"it declares signal {name!r} with another value: {mismatch}"
        else:
            why = f"it takes no signal {name!r}, it declares: {', '.join(sorted(contract.names)) or 'none'}"
        message = f"child {self.target}: {why}. Nothing was sent."
        raise SignalRefused(message, run_id=self.id, signal=name)

    def request_cancel(self) -> bool:
        """Ask the child to cancel, and go on waiting for it: awaiting raises ``ChildCancelled`` once it has.

        Return False if it has ended, or was asked before.
        """
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        if loop.ledger.barred is not None:
            raise loop.ledger.barred()
        if self.asked or (self.done() and not self.cancelled()):
            return False
        self._ask(loop)
        return True

    def ask_to_stop(self) -> None:
        """Ask the child to cancel, unless it is to be abandoned: a rollback waits for it, perhaps for long."""
        if self.on_parent_close is not ParentClose.ABANDON:
            self.request_cancel()

    def cancel(self, msg: Any | None = None) -> bool:
        """Stop waiting, and ask the child to cancel unless it is to be abandoned. Return False if it has ended."""
        if not super().cancel(msg):
            return False
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        if self.undo is None:
            self.withdraw()
        if not self.asked and self.on_parent_close is not ParentClose.ABANDON:
            self._ask(loop)
        return True

    def _ask(self, loop: DeterministicLoop) -> None:
        self.asked = True
        ledger = loop.ledger
        if not loop.dead and ledger.note_cancelled(_ASKED, self.command, self.target) and ledger.writes:
            ledger.letters.append(Letter(ChainId(self.id), EventType.CANCEL_REQUESTED))

    def settle(self, kind: str, payload: str | None) -> None:
        """Take in how the child ended. Raises ``CodecError`` if its result cannot be decoded."""
        loop: DeterministicLoop = self._loop  # type: ignore[assignment]
        loop.ledger.lineage.living -= 1
        super().settle(kind, payload)
        if self.asked and kind == _CANCELLED and not self.cancelled():
            # Just what was asked for: nobody has to hear of it who does not await it.
            self._log_traceback = False

    def _failed(self, kind: str, payload: str | None) -> Exception:
        fields: dict[str, Any] = {"activity": self.target, "attempts": 1, "run_id": self.id}
        if kind != _CANCELLED:
            failure = Failure.parse(payload or "")
            message = f"child {self.target} failed: {failure.type_name}: {failure.message}"
            return ChildFailed(message, **fields, **_described(failure))
        if payload is None:
            failure = Failure("Cancelled", f"run {self.id} was cancelled")
            message = f"child {self.target} was cancelled"
            return ChildCancelled(message, state=RunState.CANCELLED.value, **fields, **_described(failure))
        failure = Failure.parse(payload)
        message = f"child {self.target} was terminated: {failure.message}"
        return ChildCancelled(message, state=RunState.TERMINATED.value, **fields, **_described(failure))


def _described(failure: Failure) -> dict[str, Any]:
    return {
        "type_name": failure.type_name,
        "error_message": failure.message,
        "remote_traceback": failure.traceback,
        "cause": failure.cause,
    }
