"""Here lives the dispatcher's way to the broker: one connection of its own, opened when first needed.

Nothing of the app's configuration is touched, and none of its connection pools is used: theirs wait for as long as the
app's settings say, which is for ever by default. A connection that failed is thrown away; the next call opens another.

A queue that the broker refuses (other arguments, no permission, full) must not hold up the others, nor must a message
that can never be written (a compression that is not installed, a header of a route that no wire carries). The queue is
reported once, and then passed over for a while; such a message is reported and left out. Their tasks are dispatched
again when their deadline has passed, like any message that was lost.

Of Celery's signals, ``before_task_publish`` and ``after_task_publish`` are sent if somebody listens (tracing does), the
deprecated ``task_sent`` is not. ``task-sent`` events are published if the app asks for them.
"""

import contextlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from celery import Celery, signals

from continuum.celery_executor.checks import (
    check_app,
    check_queue,
    explain_flaw,
    explain_refusal,
    explain_unreachable,
    uri_of,
)
from continuum.celery_executor.letters import Composer, Letter, QueueRefusedError, Wire, WireBrokenError
from continuum.celery_executor.messages import TASK_NAME, celery_id
from continuum.celery_executor.routes import Routes
from continuum.celery_executor.wires import open_wire
from continuum.config import Settings
from continuum.declare.registry import Registry
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import DispatchedTask, TaskRef
from continuum.runtime.transport import PublishError

__all__ = ["CeleryTransport"]

log = logging.getLogger("continuum.celery")

# What one call may take, connecting not counted; a chunk that has begun may take one answer longer.
_PUBLISH_SECONDS: Final = 10
# A connection that failed this fast had been closed by the other side: it is worth another one, once.
_STALE_SECONDS: Final = 1
# How long a queue is passed over that the broker refused.
_REFUSED_SECONDS: Final = 30
# How long hints are not even tried after the broker was away.
_SULK_SECONDS: Final = 5
_REVOKED_AT_ONCE: Final = 500

# Connections of a parent process, kept from the garbage collector: it would shut down sockets that both share.
_abandoned: Final[list[Wire]] = []


class CeleryTransport:
    """A connection of its own to an app's broker; see :class:`~continuum.runtime.transport.Transport`."""

    name: Final = "celery"

    def __init__(self, app: Celery, *, settings: Settings, registry: Registry) -> None:
        self._app = app
        self._settings = settings
        self._registry = registry
        self._routes = Routes(app, settings=settings, registry=registry)
        self._composer: Composer | None = None
        self._wire: Wire | None = None
        self._pid = os.getpid()
        self._refused: dict[str, float] = {}
        self._away_until = 0.0

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy with its queue."""
        if policy.queue is not None:
            return policy
        return msgspec.structs.replace(policy, queue=self._routes.queue_of(activity, policy))

    def check(self) -> None:
        """Raise ``ConfigError`` on a configuration that can never work."""
        check_app(self._app, queue=self._settings.queue)
        for activity in self._registry.activities():
            check_queue(self._routes.queue_of(activity.name, activity.policy))

    def publish(self, tasks: Sequence[DispatchedTask], *, instance: str) -> None:
        """Publish a message for each, in order. Raises ``PublishError``."""
        positions, letters = self._compose(tasks, instance, time.monotonic())
        if not letters:
            return
        try:
            self._send(letters)
        except WireBrokenError as error:
            # Whatever was passed over has not been sent, nor has anything after it "from the first on".
            first_passed = next((at for at, position in enumerate(positions) if at != position), len(positions))
            sent = min(error.sent, first_passed)
            raise PublishError(explain_unreachable(uri_of(self._app), error.cause), sent=sent) from error.cause

    def withdraw(self, tasks: Sequence[tuple[TaskRef, int]]) -> None:
        """Ask Celery workers not to start these messages. Never raises."""
        ids = [celery_id(ref, dispatch_no) for ref, dispatch_no in tasks]
        with contextlib.suppress(Exception), self._hinting() as wire:
            for start in range(0, len(ids), _REVOKED_AT_ONCE):
                self._revoke(wire, ids[start : start + _REVOKED_AT_ONCE])

    def waiting(self, queue: str) -> int | None:
        """Return how many messages wait in a queue, None if that cannot be told."""
        if not self._routes.is_counted(queue):
            return None
        with contextlib.suppress(Exception), self._hinting() as wire:
            return wire.count(queue)
        return None

    def close(self) -> None:
        """Close the connection, at once."""
        wire, self._wire = self._wire, None
        if wire is None:
            return
        if self._pid != os.getpid():
            _abandoned.append(wire)
            return
        # Without a goodbye: that would be a round trip to a broker which may be gone.
        with contextlib.suppress(Exception):
            wire.drop()

    def _compose(self, tasks: Sequence[DispatchedTask], instance: str, now: float) -> tuple[list[int], list[Letter]]:
        if self._composer is None:
            self._composer = Composer(self._app, deadline=self._settings.dispatch_deadline)
        self._refused = {queue: until for queue, until in self._refused.items() if until > now}
        positions, letters = [], []
        for position, task in enumerate(tasks):
            queue = self._routes.queue_of(task.activity, task.policy)
            if queue not in self._refused:
                route = self._routes.find(task.activity, queue)
                positions.append(position)
                letters.append(self._composer.compose(task, route, instance=instance))
        return positions, letters

    def _send(self, letters: list[Letter]) -> None:
        """See letters taken, but for those that are refused. Raises ``WireBrokenError``."""
        begun = time.monotonic()
        self._announce(signals.before_task_publish, letters)
        left, taken = letters, list[Letter]()
        surely: int | None = None  # so many from the first on were taken, before one was left out
        looked_again: set[str] = set()
        try:
            while left:
                is_fresh, sent = self._wire is None, 0
                refused: list[Letter] = []
                try:
                    self._connected().send(left, begun + _PUBLISH_SECONDS)
                    sent = len(left)
                except WireBrokenError as error:
                    sent = error.sent
                    refused = self._flawed(left[sent:])
                    self._lose()
                    # The broker closes connections while nobody looks, as one does that is restarted.
                    if not refused and (is_fresh or time.monotonic() - begun > _STALE_SECONDS):
                        error.sent = len(taken) + sent if surely is None else surely
                        raise
                except QueueRefusedError as error:
                    sent = error.sent
                    # Somebody deleted the queue: it is made again, once.
                    if error.queue in looked_again or not error.may_be_gone:
                        refused = self._of_refused(error, left[sent:])
                    looked_again.add(error.queue)
                finally:
                    taken += left[:sent]
                if refused and surely is None:
                    surely = len(taken)
                out = {id(letter) for letter in refused}
                left = [letter for letter in left[sent:] if id(letter) not in out]
        finally:
            self._announce_sent(taken)

    def _of_refused(self, error: QueueRefusedError, letters: Sequence[Letter]) -> list[Letter]:
        """Pass over a queue for a while; return the letters that were meant for it."""
        log.error("%s", explain_refusal(error.queue, error.cause))
        self._refused[error.queue] = time.monotonic() + _REFUSED_SECONDS
        return [letter for letter in letters if letter.route.queue == error.queue]

    def _flawed(self, letters: Sequence[Letter]) -> list[Letter]:
        """Return the letters that no broker will ever be given."""
        if self._wire is None:
            return []
        flaws = [(letter, flaw) for letter in letters if (flaw := self._wire.flaw_of(letter)) is not None]
        # One line for each kind: where task_compression is at fault, all are flawed.
        for (activity, queue), flaw in {(it.headers["shadow"], it.route.queue): flaw for it, flaw in flaws}.items():
            log.error("%s", explain_flaw(activity, queue, flaw))
        return [letter for letter, _ in flaws]

    def _announce_sent(self, letters: Sequence[Letter]) -> None:
        self._announce(signals.after_task_publish, letters)
        if self._wire is not None and letters and letters[0].event is not None:
            # Events are for people who watch; one that is lost is not missed.
            with contextlib.suppress(Exception):
                for letter in letters:
                    self._app.amqp._event_dispatcher.publish(  # noqa: SLF001 - what Celery itself uses
                        "task-sent", letter.event, self._wire.side, retry=False
                    )

    def _announce(self, signal: Any, letters: Sequence[Letter]) -> None:
        if not signal.receivers:
            return
        for letter in letters:
            more = {"declare": [], "properties": letter.properties, "retry_policy": {}}
            signal.send(
                sender=TASK_NAME,
                body=letter.body,
                exchange=letter.route.exchange,
                routing_key=letter.route.routing_key,
                headers=letter.headers,
                **(more if signal is signals.before_task_publish else {}),
            )

    def _revoke(self, wire: Wire, ids: list[str]) -> None:
        """Broadcast as ``app.control.revoke`` does, but on our connection and without its endless retries."""
        mailbox = self._app.control.mailbox(wire.connection)
        wire.side.publish(
            {
                "method": "revoke",
                "arguments": {"task_id": ids, "terminate": False, "signal": "SIGTERM"},
                "destination": None,
                "pattern": None,
                "matcher": None,
            },
            exchange=mailbox.exchange.name,
            declare=[mailbox.exchange],
            headers={"clock": self._app.clock.forward(), "expires": 0},
            serializer="json",
            retry=False,
        )

    @contextlib.contextmanager
    def _hinting(self) -> Iterator[Wire]:
        """Yield a wire for something that may fail; without one if the broker was away a moment ago."""
        if time.monotonic() < self._away_until:
            raise WireBrokenError(TimeoutError("the broker was away"), 0)
        wire = self._connected()
        try:
            yield wire
        except BaseException:
            self._lose()
            raise

    def _connected(self) -> Wire:
        """Return the open wire, or open one. Raises ``WireBrokenError``."""
        if self._pid != os.getpid():
            self.close()
            self._pid = os.getpid()
        if self._wire is None:
            try:
                self._wire = open_wire(self._app)
            except Exception as error:
                self._away_until = time.monotonic() + _SULK_SECONDS
                raise WireBrokenError(error, 0) from error
        return self._wire

    def _lose(self) -> None:
        self._away_until = time.monotonic() + _SULK_SECONDS
        self.close()
