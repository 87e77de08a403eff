"""Here lives what an outbox has still to publish, and how it does so: in batches, in order, as often as it takes.

A failed publish leaves its outcome unknown for what was not surely sent. That is kept and tried again: publishing
twice is harmless, because claims decide. What has been claimed, ended or freed meanwhile is passed over.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from continuum.model.tasks import TaskRef
from continuum.runtime.belief import Belief
from continuum.runtime.transport import PublishError, Transport
from continuum.runtime.window import Underway
from continuum.telemetry.probes import probe

__all__ = ["Publisher"]

logger = logging.getLogger("continuum.runtime")

# As many at once as a broker takes in one breath; a failure leaves no more than these in doubt.
_MOST_AT_ONCE: Final = 200
_MOST_WITHDRAWN: Final = 1_000


class Publisher:
    """``put`` and ``withdraw`` may be called from any thread, the rest is the outbox's.

    :param set_aside: called with a task that the transport cannot take for a reason of its own.
    """

    def __init__(
        self,
        *,
        transport: Transport,
        belief: Belief,
        instance: str,
        set_aside: Callable[[Underway], None],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._belief = belief
        self._instance = instance
        self._set_aside = set_aside
        self._now = now
        self._arrived: deque[Underway] = deque()
        self._pending: deque[Underway] = deque()
        self._withdrawn: deque[tuple[TaskRef, int]] = deque(maxlen=_MOST_WITHDRAWN)
        # So many are published one by one: one of them is what the transport cannot take.
        self._one_by_one = 0

    def put(self, entries: Iterable[Underway]) -> None:
        """Publish these soon."""
        self._arrived.extend(entries)

    def withdraw(self, entry: Underway) -> None:
        """Nobody waits for this any more, and its message may be out."""
        self._withdrawn.append((entry.task.ref, entry.task.dispatch_no))

    @property
    def idle(self) -> bool:
        """Whether nothing waits to be published."""
        return not (self._arrived or self._pending)

    def publish(self) -> bool:
        """Publish all there is, as far as the broker takes it; return whether nothing is left."""
        while batch := self._next_batch():
            if not self._belief.worth_trying or not self._publish(batch):
                return False
        return True

    def send_withdrawals(self) -> None:
        """Tell the broker what nobody waits for; a hint, so a broker that is down is spared."""
        if self._withdrawn and self._belief.up:
            tasks = [self._withdrawn.popleft() for _ in range(len(self._withdrawn))]
            self._transport.withdraw(tasks)

    # ------------------------------------------------------------------ inner

    def _next_batch(self) -> list[Underway]:
        while self._arrived:
            self._pending.append(self._arrived.popleft())
        if any(entry.gone for entry in self._pending):
            self._pending = deque(entry for entry in self._pending if not entry.gone)
        # A broker that is down is tried with one: of what it keeps without saying so (a memory alarm), there is as
        # much again with every try.
        most = 1 if self._one_by_one or not self._belief.up else _MOST_AT_ONCE
        return [self._pending[number] for number in range(min(most, len(self._pending)))]

    def _publish(self, batch: list[Underway]) -> bool:
        probe("outbox.publishing")
        # Crash: dispatched by a worker that is dead, and never published. The sweep frees the rows, at the same
        # attempt. The same world if the process dies between the commit's answer and this line.
        try:
            self._transport.publish([entry.task for entry in batch], instance=self._instance)
        except PublishError as error:
            self._sent(batch[: error.sent])
            self._belief.failed(error)
            return False
        except Exception as error:  # noqa: BLE001 - a transport is somebody else's code
            self._refused(batch, error)
            return False
        probe("outbox.published")
        # Crash: messages are out, their rows dispatched by a dead worker. The sweep frees what nobody has claimed by
        # then, and it is published again: whoever claims first runs it, the others find nothing to claim.
        self._sent(batch)
        self._one_by_one = max(0, self._one_by_one - len(batch))
        self._belief.succeeded()
        return True

    def _sent(self, entries: Sequence[Underway]) -> None:
        now = self._now()
        for entry in entries:
            entry.published_at = now
            self._pending.popleft()
            if entry.unwanted:  # since it was given to the transport
                self.withdraw(entry)

    def _refused(self, batch: Sequence[Underway], error: Exception) -> None:
        """The transport failed in a way it does not promise: perhaps one task is the reason."""
        logger.error("%d tasks could not be published", len(batch), exc_info=error)
        self._belief.failed(error)
        if len(batch) > 1:
            self._one_by_one = len(batch)
        else:
            self._set_aside(batch[0])
