"""Here lives one open connection to a broker, with a bound in time on everything it does."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Final, cast

from celery import Celery
from kombu import Connection, Producer
from kombu.compression import compress
from kombu.transport import pyamqp
from kombu.utils import json

from continuum.celery_executor.confirms import ConfirmedWire
from continuum.celery_executor.letters import (
    CHUNK,
    Letter,
    QueueRefusedError,
    Wire,
    WireBrokenError,
    check_time,
    chunks_of,
)

__all__ = ["ANSWER_SECONDS", "CONNECT_SECONDS", "connection_of", "open_wire"]

# A broker that does not answer within these is not there. They bound each step; the caller bounds their sum.
CONNECT_SECONDS: Final = 4
ANSWER_SECONDS: Final = 5

# Transports whose channel knows how long a queue is.
_COUNTING: Final = frozenset({"redis", "filesystem", "memory"})


def connection_of(app: Celery) -> Connection:
    """Return a connection to an app's broker that waits for nothing longer than seconds; not connected.

    Bounds that the app sets itself are kept. Raises ``ValueError``, ``KeyError`` or ``ImportError`` on a URL that
    means nothing.
    """
    plain = app.connection_for_write()
    given = dict(plain.transport_options or {})
    options: dict[str, Any] = {}
    # Other transports get what the app gives them and nothing else: some hand their options on to a driver.
    if isinstance(plain.transport, pyamqp.Transport):
        for name in ("read_timeout", "write_timeout"):
            options[name] = given.get(name) or ANSWER_SECONDS
        options["confirm_publish"] = False  # its way is a round trip per message; we confirm by the chunk
    elif plain.transport.driver_type == "redis":
        options["socket_timeout"] = given.get("socket_timeout") or ANSWER_SECONDS
        options["socket_connect_timeout"] = given.get("socket_connect_timeout") or CONNECT_SECONDS
    seconds = app.conf.broker_connection_timeout or CONNECT_SECONDS
    return app.connection_for_write(transport_options=options, connect_timeout=seconds)


def open_wire(app: Celery) -> Wire:
    """Connect to an app's broker, trying each of its alternatives once. Raises what the driver raises."""
    connection = connection_of(app)
    try:
        connection.ensure_connection(
            max_retries=max(len(connection.alt or ()) - 1, 0),
            interval_start=0,
            interval_step=0,
            interval_max=0,
            timeout=2 * CONNECT_SECONDS,
        )
        if isinstance(connection.transport, pyamqp.Transport):
            return ConfirmedWire(connection, answer_seconds=ANSWER_SECONDS)
        return _PlainWire(connection)
    except BaseException:
        connection.collect()
        raise


class _PlainWire:
    """Transports that do not confirm: a message is taken when its command has succeeded.

    Redis takes a chunk of them in one pipeline, from kombu 5.7 on; elsewhere they go one by one.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._producer: Any = Producer(connection.channel(), auto_declare=False)
        self._batches = bool(getattr(self._producer, "supports_batch_publish", False))

    @property
    def side(self) -> Producer:
        return cast("Producer", self._producer)

    def send(self, letters: Sequence[Letter], until: float) -> None:
        sent = 0
        size = CHUNK if self._batches else 1
        for chunk in chunks_of(letters, size):
            try:
                self._send_chunk(chunk, until)
            except (WireBrokenError, QueueRefusedError) as error:
                error.sent += sent
                raise
            sent += len(chunk)

    def _send_chunk(self, chunk: Sequence[Letter], until: float) -> None:
        written = 0
        try:
            check_time(until)
            with self._producer.batch(max_size=CHUNK) if len(chunk) > 1 else nullcontext():
                for letter in chunk:
                    self._write(letter)
                    written += 1
        except Exception as error:
            if not _is_refusal(error):
                raise WireBrokenError(error, 0) from error
            if type(error).__name__ == "BatchPublishError":  # of kombu 5.7 and later
                # The pipeline does not say whose command it was; some of it has been done.
                return self._send_singly(chunk, until)
            raise QueueRefusedError(chunk[written].route.queue, error, 0, may_be_gone=False) from error

    def _send_singly(self, chunk: Sequence[Letter], until: float) -> None:
        for sent, letter in enumerate(chunk):
            try:
                self._send_chunk([letter], until)
            except (WireBrokenError, QueueRefusedError) as error:
                error.sent += sent
                raise

    def _write(self, letter: Letter) -> None:
        route = letter.route
        self._producer.publish(
            letter.body,
            exchange=route.exchange,
            routing_key=route.routing_key,
            serializer="json",
            headers=letter.headers,
            # Once per connection, as Celery does it: sets a queue's expiry on Redis, binds it to exchanges.
            declare=[] if route.entity is None else [route.entity],
            retry=False,
            **letter.properties,
        )

    def flaw_of(self, letter: Letter) -> Exception | None:
        try:
            if letter.properties["compression"]:
                compress(b"", letter.properties["compression"])
            json.dumps(letter.headers)
        except Exception as error:  # noqa: BLE001 - compressors and encoders have errors of their own
            return error
        return None

    def count(self, queue: str) -> int | None:
        if self.connection.transport.driver_type not in _COUNTING:
            return None
        # On Redis a queue is one list for each step of priority. A passive declaration would make the queue.
        return int(self._producer.channel._size(queue))  # noqa: SLF001

    def drop(self) -> None:
        self.connection.collect()


def _is_refusal(error: BaseException | None) -> bool:
    """Whether a Redis that is well takes no messages for a queue: its key holds something else, or is not for us."""
    while error is not None:
        if "WRONGTYPE" in str(error) or type(error).__name__ == "NoPermissionError":
            return True
        error = error.__cause__
    return False
