"""Here lives what a client sends to a run that exists: signals, cancel requests, and the end by force."""

from typing import Any

import msgspec

from continuum.client.access import Access
from continuum.client.agreements import find_contract
from continuum.client.checks import check_key, check_namespace, check_run_id
from continuum.client.joined import send_after_commit
from continuum.declare.signals import Signal, signal_name
from continuum.errors import ConfigError, JournalBusy, JournalUnavailable, SignalRefused
from continuum.journal.protocol import PostResult
from continuum.journal.requests import Hint, HintKind
from continuum.model.codec import check_size, encode
from continuum.model.contracts import Mismatch
from continuum.model.events import EventType
from continuum.model.ids import RunId
from continuum.model.messages import NewMessage
from continuum.model.names import is_storable, shown

__all__ = ["post", "send_cancel", "send_signal", "terminate_run", "write_signal"]

_MAX_REASON = 2_000


def send_signal(
    access: Access,
    run_id: str,
    signal: Signal[Any] | str,
    value: Any,
    *,
    delivery_id: str | None,
    namespace: str | None,
    connection: Any,
    workflow: str | None = None,
) -> PostResult:
    """Post a signal to the tip of the run's chain.

    The value is checked against the signal's type, the contract of the run's workflow, and the limit of its size,
    before anything is written.

    :param workflow: the run's workflow, where it is known.
    """
    message = NewMessage(
        run_id=check_run_id(run_id),
        kind=EventType.SIGNAL_RECEIVED,
        name=signal_name(signal),
        payload=None,
        namespace=check_namespace(namespace),
        delivery_id=check_key("delivery_id", delivery_id),
    )
    payload = write_signal(access, message, signal, value, connection=connection, workflow=workflow)
    return post(access, msgspec.structs.replace(message, payload=payload), connection)


def write_signal(
    access: Access,
    message: NewMessage,
    signal: Signal[Any] | str,
    value: Any,
    *,
    connection: Any = None,
    workflow: str | None = None,
    asks: bool = False,
) -> str:
    """Return the payload of a value that the tip of the run's chain takes.

    :param asks: whether an answer is expected.

    Raises ``CodecError``, ``SignalRefused``, ``RunNotFound``.
    """
    name = signal_name(signal)
    payload = signal.encode(value) if isinstance(signal, Signal) else encode(value, where=f"signal {name}")
    contract = find_contract(access, message, connection=connection, workflow=workflow)
    if contract is not None:
        if name not in contract.names:
            declared = ", ".join(sorted(contract.names)) or "none"
            raise _refused(message, f"it takes no signal {name!r}. Its workflow declares: {declared}.")
        if asks and name not in contract.questions:
            declared = ", ".join(sorted(contract.questions)) or "none"
            raise _refused(message, f"it does not answer signal {name!r}. Those with a reply: {declared}.")
        try:
            fitted = contract.check(name, payload)
        except Mismatch as mismatch:
            raise _refused(message, f"signal {name!r} is declared with another value: {mismatch}.") from None
        if not (isinstance(signal, Signal) and signal.is_exact):
            payload = fitted
    check_size(payload, access.settings.max_payload_bytes, f"signal {name}")
    return payload


def _refused(message: NewMessage, why: str) -> SignalRefused:
    return SignalRefused(f"run {message.run_id}: {why} Nothing was sent.", run_id=message.run_id, signal=message.name)


def send_cancel(access: Access, run_id: str, *, namespace: str | None, connection: Any) -> None:
    """Ask the tip of the run's chain to cancel itself."""
    message = NewMessage(
        run_id=check_run_id(run_id),
        kind=EventType.CANCEL_REQUESTED,
        name=None,
        payload=None,
        namespace=check_namespace(namespace),
    )
    post(access, message, connection)


def terminate_run(access: Access, run_id: str, *, reason: str | None, namespace: str | None) -> RunId:
    """End the tip of the run's chain now, without its code; return its id."""
    if reason is not None and (not isinstance(reason, str) or len(reason) > _MAX_REASON or not is_storable(reason)):
        message = f"reason={shown(reason)} is not valid: write a text of at most {_MAX_REASON} characters."
        raise ConfigError(message)
    known = check_run_id(run_id)
    journal = access.journal
    ended = journal.runs.terminate(known, namespace=check_namespace(namespace), reason=reason or "")
    journal.hint(Hint(HintKind.DONE, (ended, known) if ended != known else (ended,)))
    # Its owner has lost it, and hears of it here.
    journal.hint(Hint(HintKind.MAIL, (ended,)))
    return ended


def post(access: Access, message: NewMessage, connection: Any = None) -> PostResult:
    """Post a message, and say so to the dispatchers; ask once more where that can do no harm."""
    journal = access.journal
    hint = Hint(HintKind.MAIL)
    if connection is not None:
        result = journal.runs.post(message, connection=connection)
        send_after_commit(connection, hint.kind, lambda: journal.hint(hint))
        return result
    try:
        result = journal.runs.post(message)
    except JournalBusy:
        result = journal.runs.post(message)
    except JournalUnavailable:
        # Crash: the answer was lost, the message perhaps not. A delivery id makes asking again harmless; without one
        # it could arrive twice, so the caller decides. "duplicate" may then mean our own first try.
        if message.delivery_id is None:
            raise
        result = journal.runs.post(message)
    journal.hint(hint)
    return result
