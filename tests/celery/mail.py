"""Here live the messages themselves: taken from a queue, copied, put back late, forged."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from celery import Celery
from kombu import Message

from continuum.celery_executor.messages import TASK_NAME
from tests.celery.stage import Stage
from tests.support.eventually import eventually

__all__ = ["client", "forge", "put", "take"]


@contextmanager
def client(stage: Stage) -> Iterator[Celery]:
    """Yield a Celery app on the stage's broker that is nobody's current app."""
    with Celery("operator", broker=stage.broker.url, set_as_current=False) as app:
        app.conf.broker_connection_timeout = 5
        yield app


def take(stage: Stage, queue: str | None = None) -> Message:
    """Take the next message out of a queue (of activities), for good; wait until there is one."""
    name = queue or stage.queue
    eventually(lambda: stage.broker.queue_length(name), 20)
    with client(stage) as app, app.connection_for_write() as connection, connection.channel() as channel:
        found: Message = eventually(lambda: channel.basic_get(name, no_ack=True), 20)
        return found


def put(stage: Stage, message: Message, times: int = 1, queue: str | None = None) -> None:
    """Put copies of a message into a queue."""
    with client(stage) as app, app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for _ in range(times):
            producer.publish(
                message.body,
                routing_key=queue or stage.queue,
                exchange="",
                headers=message.headers,
                content_type=message.content_type,
                content_encoding=message.content_encoding,
                correlation_id=message.properties.get("correlation_id"),
                retry=False,
            )


def forge(
    stage: Stage,
    args: Sequence[Any],
    *,
    kwargs: dict[str, Any] | None = None,
    name: str = TASK_NAME,
    queue: str | None = None,
) -> None:
    """Send a message that no dispatcher has published."""
    options = {"task_id": str(uuid.uuid4()), "queue": queue or stage.queue, "ignore_result": True}
    with client(stage) as app, app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        app.send_task(name, list(args), kwargs or {}, producer=producer, **options)
