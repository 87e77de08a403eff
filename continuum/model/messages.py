"""Here lives mail: what outsiders leave for a run's owner to journal."""

from typing import Final

import msgspec

from continuum.model.events import EventType
from continuum.model.ids import ChainId, RunId

__all__ = ["MESSAGE_KINDS", "Message", "NewMessage"]

MESSAGE_KINDS: Final = frozenset(
    {
        EventType.SIGNAL_RECEIVED,
        EventType.CANCEL_REQUESTED,
        EventType.ACTIVITY_COMPLETED,
        EventType.ACTIVITY_FAILED,
        EventType.CHILD_COMPLETED,
        EventType.CHILD_FAILED,
        EventType.CHILD_CANCELLED,
        EventType.RUN_TERMINATED,
    }
)


class Message(msgspec.Struct, frozen=True, gc=False):
    """One row of the inbox: a completion that waits to be delivered.

    :ivar id: rising, but visible out of order: a smaller id may appear later.
    :ivar run_id: the only run it is meant for; None for the tip of the chain, whichever that is.
    :ivar kind: the completion it becomes; ``run_terminated`` ends the run without its code.
    :ivar unreadable: why its payload cannot be had (a lost key, say); None if it can.
    """

    id: int
    chain_id: ChainId
    run_id: RunId | None
    kind: EventType
    command: int | None
    name: str | None
    payload: str | None
    unreadable: str | None = None


class NewMessage(msgspec.Struct, frozen=True):
    """A signal or a cancel request about to be posted to the tip of a run's chain.

    :ivar run_id: any run of the chain.
    :ivar namespace: the run must be in it; None for any.
    :ivar delivery_id: a second message with the same chain, name and delivery id is a duplicate.
    """

    run_id: RunId
    kind: EventType
    name: str | None
    payload: str | None
    namespace: str | None = None
    delivery_id: str | None = None
