"""Here live the facts a history is made of.

A history is a sequence of events with consecutive sequence numbers from 1. Three kinds matter to replay:

- *commands*, numbered in the order workflow code issued them (``Event.command`` is that number);
- *completions*, in the order they were delivered. Those of a command carry its number;
- *notes*, which replay skips: they tell readers of a timeline what happened, nothing more.

``run_started`` comes first and is none of them: it carries what the run was started with.
"""

from enum import StrEnum
from typing import Final

import msgspec

__all__ = ["COMMANDS", "COMPLETIONS", "NOTES", "TERMINAL", "Event", "EventType"]


class EventType(StrEnum):
    """What happened, in the past tense. The text is what the database stores."""

    RUN_STARTED = "run_started"

    ACTIVITY_SCHEDULED = "activity_scheduled"
    TIMER_STARTED = "timer_started"
    SIGNAL_AWAITED = "signal_awaited"
    VALUE_RECORDED = "value_recorded"
    PATCH_MARKED = "patch_marked"
    COMPENSATION_SCHEDULED = "compensation_scheduled"
    CHILD_STARTED = "child_started"
    SIGNAL_SENT = "signal_sent"
    ATTRIBUTES_SET = "attributes_set"
    VALUE_PUBLISHED = "value_published"
    SIGNAL_ANSWERED = "signal_answered"

    RUN_BEGAN = "run_began"
    ACTIVITY_COMPLETED = "activity_completed"
    ACTIVITY_FAILED = "activity_failed"
    TIMER_FIRED = "timer_fired"
    SIGNAL_RECEIVED = "signal_received"
    CHILD_COMPLETED = "child_completed"
    CHILD_FAILED = "child_failed"
    CHILD_CANCELLED = "child_cancelled"
    CANCEL_REQUESTED = "cancel_requested"

    ACTIVITY_CANCELLED = "activity_cancelled"
    TIMER_CANCELLED = "timer_cancelled"
    CHILD_CANCEL_REQUESTED = "child_cancel_requested"
    VERSION_ADOPTED = "version_adopted"
    MESSAGE_UNDELIVERABLE = "message_undeliverable"

    RUN_COMPLETED = "run_completed"
    RUN_FAILED = "run_failed"
    RUN_CANCELLED = "run_cancelled"
    RUN_TERMINATED = "run_terminated"
    RUN_CONTINUED = "run_continued"


COMMANDS: Final = frozenset(
    {
        EventType.ACTIVITY_SCHEDULED,
        EventType.TIMER_STARTED,
        EventType.SIGNAL_AWAITED,
        EventType.VALUE_RECORDED,
        EventType.PATCH_MARKED,
        EventType.COMPENSATION_SCHEDULED,
        EventType.CHILD_STARTED,
        EventType.SIGNAL_SENT,
        EventType.ATTRIBUTES_SET,
        EventType.VALUE_PUBLISHED,
        EventType.SIGNAL_ANSWERED,
    }
)
COMPLETIONS: Final = frozenset(
    {
        EventType.RUN_BEGAN,
        EventType.ACTIVITY_COMPLETED,
        EventType.ACTIVITY_FAILED,
        EventType.TIMER_FIRED,
        EventType.SIGNAL_RECEIVED,
        EventType.CHILD_COMPLETED,
        EventType.CHILD_FAILED,
        EventType.CHILD_CANCELLED,
        EventType.CANCEL_REQUESTED,
    }
)
NOTES: Final = frozenset(
    {
        EventType.ACTIVITY_CANCELLED,
        EventType.TIMER_CANCELLED,
        EventType.CHILD_CANCEL_REQUESTED,
        EventType.VERSION_ADOPTED,
        EventType.MESSAGE_UNDELIVERABLE,
    }
)
TERMINAL: Final = frozenset(
    {
        EventType.RUN_COMPLETED,
        EventType.RUN_FAILED,
        EventType.RUN_CANCELLED,
        EventType.RUN_TERMINATED,
        EventType.RUN_CONTINUED,
    }
)


class Event(msgspec.Struct, frozen=True, gc=False):
    """One fact of one run.

    A msgspec struct rather than a dataclass: twelve thousand of them are made when a long run is resumed.

    :ivar seq: position in the history, from 1; 0 while the event waits to be journaled.
    :ivar type: the kind of fact. Loaded events hold the plain text, which compares and hashes alike.
    :ivar command: the number of the command it is, or belongs to; None if it belongs to none.
    :ivar name: activity, signal, value or patch; None where the type says all.
    :ivar payload: JSON text, or None.
    :ivar at: when, in microseconds since the epoch on the database's clock.
    :ivar location: ``file:line`` of the workflow code that issued a command; None elsewhere.
    """

    seq: int
    type: EventType
    command: int | None
    name: str | None
    payload: str | None
    at: int
    location: str | None = None
