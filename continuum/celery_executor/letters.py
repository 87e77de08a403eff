"""Here lives a message on its way: composed for Celery, handed to a wire, taken or not."""

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, Protocol

from celery import Celery
from celery.utils.nodenames import anon_nodename
from kombu import Connection, Producer
from kombu.entity import maybe_delivery_mode

from continuum.celery_executor.messages import TASK_NAME, celery_id, describe, to_args
from continuum.celery_executor.routes import Route, limits_of
from continuum.journal.protocol import LONGEST_DISPATCH_DEADLINE
from continuum.model.tasks import DispatchedTask

__all__ = ["CHUNK", "Composer", "Letter", "QueueRefusedError", "Wire", "WireBrokenError", "check_time", "chunks_of"]

# Messages per pipeline or round of confirmations: a few milliseconds of work, 200 KB.
CHUNK: Final = 200
# A message may be claimed long after its task was offered anew, which does no harm; after this it is only in the way.
_EXPIRES_AFTER_DEADLINES: Final = 10
# Whatever the shop does with its own messages: RabbitMQ confirms a persistent one when it is on disk, 20 ms later, and
# all that a restart of the broker loses is published again from Postgres. A route may say otherwise.
_DELIVERY_MODE: Final = "transient"
# A power of two that outgrows any deadline.
_MOST_DOUBLINGS: Final = 20


class Letter(NamedTuple):
    """A message, ready to be written.

    :ivar event: what an event says of it, if events are wanted.
    """

    route: Route
    body: Any
    headers: dict[str, Any]
    properties: dict[str, Any]
    event: dict[str, Any] | None


class WireBrokenError(Exception):
    """The connection is of no use any more; of the letters given, the first ``sent`` have been taken."""

    def __init__(self, cause: Exception, sent: int) -> None:
        super().__init__(str(cause) or type(cause).__name__)
        self.cause = cause
        self.sent = sent


class QueueRefusedError(Exception):
    """The broker is well, but takes no messages for this queue; the first ``sent`` letters have been taken.

    :ivar may_be_gone: the queue was there when it was looked for; the next letter to it makes sure again.
    """

    def __init__(self, queue: str, cause: Exception, sent: int, *, may_be_gone: bool) -> None:
        super().__init__(str(cause))
        self.queue = queue
        self.cause = cause
        self.sent = sent
        self.may_be_gone = may_be_gone


class Wire(Protocol):
    """An open connection. After :class:`WireBrokenError` only :meth:`drop` makes sense."""

    @property
    def connection(self) -> Connection:
        """The connection."""

    @property
    def side(self) -> Producer:
        """A producer for what need not arrive: events, revocations."""

    def send(self, letters: Sequence[Letter], until: float) -> None:
        """Write letters in order, and see them taken, before a time of the monotonic clock.

        Raises ``WireBrokenError``, ``QueueRefusedError``.
        """

    def flaw_of(self, letter: Letter) -> Exception | None:
        """Return why this letter can never be written, whatever the broker does; None if nothing speaks against it."""

    def count(self, queue: str) -> int | None:
        """Return how many messages wait in a queue, None if that cannot be told. Raises what the driver raises."""

    def drop(self) -> None:
        """Close without a word to the broker."""


class Composer:
    """Makes the letters of one app and one instance."""

    def __init__(self, app: Celery, *, deadline: timedelta) -> None:
        self._as_task = app.amqp.as_task_v2
        self._deadline = deadline
        self._events = bool(app.conf.task_send_sent_event)
        self._compression = app.conf.task_compression
        self._origin = anon_nodename()

    def compose(self, task: DispatchedTask, route: Route, *, instance: str) -> Letter:
        """Return the letter of a task.

        It expires by the database's clock, which is what Celery workers' clocks are compared with; a broker that
        drops expired messages is told how long, which no clock can spoil.
        """
        ref = task.ref
        hard, soft = limits_of(task.policy, route)
        doubled = self._deadline * 2 ** min(task.dispatch_no - 1, _MOST_DOUBLINGS)
        deadline = min(doubled, max(self._deadline, LONGEST_DISPATCH_DEADLINE))
        last = datetime.fromtimestamp(task.deadline_us / 1e6, UTC) + deadline * (_EXPIRES_AFTER_DEADLINES - 1)
        message = self._as_task(
            celery_id(ref, task.dispatch_no),
            TASK_NAME,
            to_args(instance, ref, task.activity),
            {},
            expires=last.isoformat(),
            time_limit=hard,
            soft_time_limit=soft,
            create_sent_event=self._events,
            root_id=ref.run_id,
            shadow=task.activity,
            origin=self._origin,
            ignore_result=True,
            argsrepr=describe(ref),
            kwargsrepr="{}",
        )
        headers, properties, event = message.headers, message.properties, message.sent_event
        if route.headers:
            headers.update(route.headers)
        properties["delivery_mode"] = maybe_delivery_mode(route.delivery_mode or _DELIVERY_MODE)
        properties["expiration"] = deadline / timedelta(seconds=1) * _EXPIRES_AFTER_DEADLINES
        properties["compression"] = route.compression or self._compression
        properties["priority"] = route.priority or 0
        if event is not None:
            # Events are about what a person sees: the activity.
            event.update(name=task.activity, queue=route.queue, exchange=route.exchange, routing_key=route.routing_key)
        return Letter(route, message.body, headers, properties, event)


def chunks_of(letters: Sequence[Letter], size: int) -> Iterator[Sequence[Letter]]:
    """Yield letters in order, at most ``size`` at a time."""
    for start in range(0, len(letters), size):
        yield letters[start : start + size]


def check_time(until: float) -> None:
    """Raise ``TimeoutError`` after a time of the monotonic clock."""
    if time.monotonic() > until:
        raise TimeoutError("the broker takes messages too slowly")
