"""Here lives a wire to an AMQP broker that confirms every message.

A chunk of messages is written, then their confirmations are awaited: safety costs one round trip per chunk. Without
confirmations a partition swallows messages and reports success. ``mandatory`` brings back what no queue takes; the
return comes before its confirmation, so a confirmed message that has not come back is in a queue.

A user's queue is never declared with arguments other than those it has: it is looked for first, and made only if there
is none, as Celery itself would make it. Looking and making happen on channels of their own, because a refusal closes
the channel.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, cast

from amqp.exceptions import ChannelError, NotFound
from kombu import Connection, Producer
from kombu.compression import compress
from kombu.serialization import dumps

from continuum.celery_executor.letters import (
    CHUNK,
    Letter,
    QueueRefusedError,
    WireBrokenError,
    check_time,
    chunks_of,
)
from continuum.celery_executor.routes import Route

__all__ = ["ConfirmedWire"]

# Even at the end of the time there is this much to read what has already come.
_LEAST_SECONDS: Final = 0.05


class ConfirmedWire:
    """An open AMQP connection; see :class:`~continuum.celery_executor.letters.Wire`."""

    def __init__(self, connection: Connection, *, answer_seconds: float) -> None:
        self.connection = connection
        self._answer_seconds = answer_seconds
        self._side: Producer | None = None
        self._declared: set[tuple[str, str]] = set()
        self._last_tag = 0
        self._unconfirmed: dict[int, int] = {}  # delivery tag -> position of the letter, oldest first
        self._returned: dict[str, Exception] = {}  # Celery id -> why
        self._refused: dict[int, Exception] = {}  # position of the letter -> why
        channel = self._channel = cast("Any", connection.channel())
        channel.confirm_select()
        channel.events["basic_ack"].add(self._on_ack)
        channel.events["basic_nack"].add(self._on_nack)
        channel.events["basic_return"].add(self._on_return)

    @property
    def side(self) -> Producer:
        """A producer on a channel without confirmations."""
        if self._side is None:
            self._side = Producer(cast("Any", self.connection.channel()), auto_declare=False)
        return self._side

    def send(self, letters: Sequence[Letter], until: float) -> None:
        """Write letters in order, and wait for their confirmations."""
        sent = 0
        for chunk in chunks_of(letters, CHUNK):
            try:
                self._send_chunk(chunk, until)
            except (WireBrokenError, QueueRefusedError) as error:
                error.sent += sent
                raise
            sent += len(chunk)

    def count(self, queue: str) -> int | None:
        """Return how many messages are ready in a queue, None if there is no such queue."""
        try:
            found = self._on_scratch(lambda channel: channel.queue_declare(queue, passive=True))
        except ChannelError:
            return None
        return int(found.message_count)

    def drop(self) -> None:
        """Close without a word to the broker."""
        self.connection.collect()

    def _send_chunk(self, chunk: Sequence[Letter], until: float) -> None:
        self._unconfirmed.clear()
        self._returned.clear()
        self._refused.clear()
        reached = 0
        try:
            for letter in chunk:
                check_time(until)
                try:
                    self._declare(letter.route)
                except ChannelError as error:
                    self._refused[reached] = error
                    break  # what is written already is confirmed before this is said
                self._write(letter, reached, until)
                reached += 1
            while self._unconfirmed:
                check_time(until)
                self.connection.drain_events(timeout=self._remaining(until))
        except Exception as error:
            self._collect_returned(chunk)
            raise WireBrokenError(error, min((reached, *self._unconfirmed.values(), *self._refused))) from error
        self._collect_returned(chunk)
        if self._refused:
            first = min(self._refused)
            letter = chunk[first]
            key = (letter.route.queue, letter.route.exchange)
            returned = letter.properties["correlation_id"] in self._returned
            self._declared.discard(key)
            raise QueueRefusedError(letter.route.queue, self._refused[first], first, may_be_gone=returned)

    def flaw_of(self, letter: Letter) -> Exception | None:
        """Return why this letter can never be written."""
        try:
            self._message_of(letter)._serialize_properties()  # noqa: SLF001 - what writing begins with
        except Exception as error:  # noqa: BLE001 - compressors and encoders have errors of their own
            return error
        return None

    def _message_of(self, letter: Letter) -> Any:
        properties = dict(letter.properties)
        compression, priority = properties.pop("compression"), properties.pop("priority")
        properties["expiration"] = str(int(properties["expiration"] * 1000))
        content_type, encoding, body = dumps(letter.body, serializer="json")
        if compression:
            body, letter.headers["compression"] = compress(body, compression)
        return self._channel.prepare_message(body, priority, content_type, encoding, letter.headers, properties)

    def _write(self, letter: Letter, position: int, until: float) -> None:
        message = self._message_of(letter)
        self._last_tag += 1
        self._unconfirmed[self._last_tag] = position
        self._channel.basic_publish(
            message,
            exchange=letter.route.exchange,
            routing_key=letter.route.routing_key,
            mandatory=True,
            timeout=self._remaining(until),
        )

    def _declare(self, route: Route) -> None:
        """See to it that there is something to publish to. Raises ``ChannelError`` if the broker refuses."""
        key = (route.queue, route.exchange)
        if key in self._declared:
            return
        if route.exchange and route.entity is None:
            self._on_scratch(lambda channel: channel.exchange_declare(route.exchange, "direct", passive=True))
        elif route.entity is not None and not (self._exists(route.entity.name) and not route.exchange):
            self._on_scratch(lambda channel: self._make(route, channel))
        self._declared.add(key)

    def _make(self, route: Route, channel: Any) -> None:
        queue = route.entity(channel)
        if self._exists(queue.name):
            queue.exchange.declare()
            queue.queue_bind()
        else:
            queue.declare()

    def _exists(self, queue: str) -> bool:
        try:
            self._on_scratch(lambda channel: channel.queue_declare(queue, passive=True))
        except NotFound:
            return False
        return True

    def _on_scratch(self, ask: Any) -> Any:
        channel = cast("Any", self.connection.channel())
        answer = ask(channel)
        channel.close()
        return answer

    def _collect_returned(self, chunk: Sequence[Letter]) -> None:
        for position, letter in enumerate(chunk):
            why = self._returned.get(letter.properties["correlation_id"])
            if why is not None:
                self._refused[position] = why

    def _on_ack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - the driver's signature
        for each in self._named(tag, multiple=multiple):
            self._unconfirmed.pop(each, None)

    def _on_nack(self, tag: int, multiple: bool) -> None:  # noqa: FBT001 - the driver's signature
        for each in self._named(tag, multiple=multiple):
            position = self._unconfirmed.pop(each, None)
            if position is not None:
                self._refused[position] = RuntimeError("the broker rejected the message (is the queue full?)")

    def _on_return(self, error: Exception, _exchange: str, _key: str, message: Any) -> None:
        self._returned[message.properties.get("correlation_id", "")] = error

    def _named(self, tag: int, *, multiple: bool) -> list[int]:
        return [each for each in self._unconfirmed if each <= tag] if multiple else [tag]

    def _remaining(self, until: float) -> float:
        return max(min(self._answer_seconds, until - time.monotonic()), _LEAST_SECONDS)
