"""Here lives the way of tasks to an external executor: one outbox, one thread, one transport for each executor.

The task row is the real outbox, this one its errand boy. A row that is *dispatched* says "the worker in ``claimed_by``
has published this, or is about to". Whoever gets the message claims the row by run, command and attempt, however often
and in whatever order messages arrive. States of a task as seen from here::

    reserved ──(its commit is acknowledged)──► to publish ──(the transport has it)──► published ──► gone
    free ───────(marked by this thread)────────────▲ │                                   │
      ▲                                              └──(broker down: kept, tried again) │
      └───────(lost by the broker; an answer was lost; a drain; a dead worker)───────────┘

- *reserved*: the turns thread inserts the row as dispatched: the commit is the mark, no second one is needed.
- *to publish*: in memory only. If this process dies, its worker row expires and the sweep frees the row.
- *published*: perhaps into the hands of a broker that loses it. The row is offered again at its deadline, or earlier
  if the broker says that the queue is empty.
- *gone*: claimed, ended, cancelled or freed, as the journal says when it is asked what is still undelivered.

``# Invariant:`` what is in doubt is published once more, or freed. A row stays dispatched and unpublished only while
this process remembers it, or is dead and not yet swept.

*The broker is down*: what is marked is kept and tried again after a growing pause; no place is reserved and nothing is
marked, so that new orders stay free in Postgres. Nobody but this thread ever waits for a broker.

*The lease was lost*: what was marked under the old id is forgotten; the sweep of the dead id frees it.

*A drain*: nothing more is marked; what is marked is published, once. What cannot be published is freed, so that
another dispatcher marks it at once: left dispatched, it would wait for its deadline, and nobody would know why. Only
what has surely been published is handed over (dispatched by nobody until its deadline), so that a rolling deploy
publishes nothing twice. If even freeing fails, nothing is handed over, and the sweep of this worker frees all of it:
the price is a second message for what had been published.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.model.ids import RunId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import DispatchedTask, TaskOrder
from continuum.runtime.belief import Belief
from continuum.runtime.lease import Lease
from continuum.runtime.lookout import Lookout
from continuum.runtime.publisher import Publisher
from continuum.runtime.service import Service
from continuum.runtime.transport import Transport
from continuum.runtime.window import Underway, Window
from continuum.telemetry.probes import probe

__all__ = ["Outbox"]

logger = logging.getLogger("continuum.runtime")

_MOST_MARKED: Final = 200
# Where there is no room, asking for free tasks again is pointless for this long.
_NO_ROOM_PAUSE: Final = 0.05
# What the transport cannot take for a reason of its own must not hold up the others.
_SET_ASIDE: Final = timedelta(seconds=30)
_NOW: Final = timedelta(0)
# A transport blocks for seconds at most; a drain waits for the end of that, but not for ever.
_LAST_WORDS: Final = 0.5


class Outbox(Service):
    """Marks and publishes the tasks of one executor.

    ``reserve``, ``unreserve``, ``submit``, ``settle``, ``cancel`` and ``wake`` never block.

    :param instance: the instance's name, which travels with each message.
    :param window: how many tasks of a queue may be dispatched and unclaimed.
    :param deadline: how long a first dispatch may stay unclaimed.
    :param poll: how often free tasks are looked for though nobody said that there are any.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        transport: Transport,
        lease: Lease,
        instance: str,
        window: int,
        deadline: timedelta,
        poll: timedelta = timedelta(seconds=30),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.executor = transport.name
        self.name = f"outbox-{self.executor}"
        self._journal = journal
        self._transport = transport
        self._lease = lease
        self._deadline = deadline
        self._poll = poll.total_seconds()
        self._now = now
        self._window = Window(window)
        self._belief = Belief(self.executor, now=now)
        self._lookout = Lookout(journal=journal, transport=transport, window=self._window, belief=self._belief, now=now)
        self._publisher = Publisher(
            transport=transport, belief=self._belief, instance=instance, set_aside=self._set_aside, now=now
        )
        self._signed = lease.worker
        self._asked = True
        self._catching_up = False
        self._mark_at = self._due_at = self._not_before = now()
        self._draining = False
        self._emptied = threading.Event()

    # ------------------------------------------------------------------ from the turns thread

    @property
    def outstanding(self) -> int:
        """How many tasks are dispatched, as far as is known here, and have not ended."""
        return len(self._window)

    def place(self, activity: str, policy: ActivityPolicy) -> ActivityPolicy:
        """Return the policy a call is stored under: with its queue."""
        return self._transport.place(activity, policy)

    def reserve(self, order: TaskOrder) -> bool:
        """Whether a task may be inserted as dispatched by this worker; if so, a place is kept for it."""
        if self._draining or self._catching_up or not self._belief.up or not self._lease.live:
            return False
        return self._window.reserve(order.policy.queue_name)

    def unreserve(self, order: TaskOrder) -> None:
        """Give back a place: the task was not inserted."""
        self._window.unreserve(order.policy.queue_name)
        super().wake()

    def submit(self, tasks: Sequence[DispatchedTask]) -> None:
        """Publish tasks for which places were reserved; their commit is acknowledged."""
        self._publisher.put(self._window.add(tasks, self._lease.worker, reserved=True))
        super().wake()

    def settle(self, run_id: RunId, command: int) -> None:
        """The task's outcome has come."""
        self._window.settle(run_id, command)

    def cancel(self, run_id: RunId, command: int) -> None:
        """Nobody waits for this task any more: publish it not, or withdraw its message."""
        entry = self._window.settle(run_id, command)
        if entry is not None:
            entry.unwanted = True
            if entry.published_at is not None:
                self._publisher.withdraw(entry)
                super().wake()

    def wake(self) -> None:
        """Free tasks may be waiting: mark them soon."""
        self._asked = True
        super().wake()

    def status(self) -> dict[str, object]:
        """Return how much is dispatched and unclaimed, how much of that is not published, and how the broker is."""
        held = self._window.held()
        return {
            "outstanding": len(held),
            "to_publish": sum(entry.published_at is None for entry in held),
            "broker": "up" if self._belief.up else "down",
        }

    # ------------------------------------------------------------------ the thread

    def run_once(self) -> float:
        """Publish, look, mark, as far as it is time to; return the pause until the next time."""
        worker = self._lease.worker
        if worker != self._signed:
            self._window.forget_work_of(self._signed)
            self._signed = worker
            self._asked = True
        if not self._lease.live:
            # Whatever is marked under this id will be swept with it.
            self._window.forget_work_of(worker)
            self._emptied.set()
            return self._poll
        if not (self._belief.up or self._publisher.idle or self._draining) and self._belief.worth_trying:
            # Much may have happened to what waits since the broker went away.
            self._look()
        self._publish()
        self._publisher.send_withdrawals()
        if self._draining:
            if self._publisher.idle or not self._belief.worth_trying:
                self._emptied.set()
            return 0.0 if self._belief.worth_trying and not self._publisher.idle else self._poll
        next_look = self._lookout.next_look()
        if next_look is not None and self._now() >= next_look:
            self._look()
        if self._now() >= self._next_mark and self._publisher.idle and self._belief.worth_trying:
            self._mark()
        return self._seconds_to_sleep()

    def _loop(self) -> None:
        try:
            super()._loop()
        finally:
            self._hang_up()

    def _hang_up(self) -> None:
        try:
            self._transport.close()
        except Exception as error:  # noqa: BLE001 - it is over
            logger.warning("executor %r: the connection could not be closed (%s)", self.executor, error)

    def _publish(self) -> bool:
        done = self._publisher.publish()
        if not self._belief.up:
            # Until all that waits in Postgres is marked, it would be overtaken by what is new.
            self._catching_up = True
        return done

    def _look(self) -> None:
        if self._lookout.look(self._signed):
            self._asked = True

    def _set_aside(self, entry: Underway) -> None:
        logger.error(
            "run %s: activity %s cannot be published; it is offered again in %s",
            entry.task.ref.run_id,
            entry.task.activity,
            _SET_ASIDE,
        )
        self._lookout.free([entry], delay=_SET_ASIDE)

    # ------------------------------------------------------------------ marking

    @property
    def _next_mark(self) -> float:
        if self._asked or self._window.hungry:
            return self._not_before
        return min(self._mark_at, self._due_at)

    def _mark(self) -> None:
        """Mark and publish free due tasks as far as there is room."""
        # Before the question: who asks meanwhile is heard at the next pass.
        self._asked = False
        try:
            while self._mark_some() and not self._draining:
                pass
        except BaseException:
            # Rows may be marked without our hearing of it.
            self._window.touched = self._asked = True
            raise

    def _mark_some(self) -> bool:
        window = self._window
        found = self._journal.tasks.dispatch(
            self._signed,
            executor=self.executor,
            rooms=window.rooms(),
            room=window.size,
            # A broker that is believed to be down is tried with a single task.
            limit=_MOST_MARKED if self._belief.up else 1,
            deadline=self._deadline,
        )
        if found.tasks:
            probe("outbox.marked")
            # Crash: dispatched by a dead worker and never published; the sweep frees them. If the answer alone was
            # lost, the look-out does, after a few seconds.
            self._publisher.put(window.add(found.tasks, self._signed, reserved=False))
        now = self._now()
        self._mark_at = now + self._poll
        self._due_at = self._mark_at if found.next_due_us is None else now + self._seconds_until(found.next_due_us)
        if not self._publish():
            self._asked = True
            return False
        if found.tasks and found.more:
            return True
        full = window.fallen_behind(more=found.more)
        if found.more:
            self._not_before = now + _NO_ROOM_PAUSE
            # Where a queue is full, room will be the signal. Otherwise somebody else is at them just now.
            self._asked |= not full
        self._catching_up = False
        return False

    def _seconds_until(self, at_us: int) -> float:
        return max(0.0, (at_us - self._journal.clock.now_us()) / 1e6)

    def _seconds_to_sleep(self) -> float:
        if self._belief.worth_trying:
            if not self._publisher.idle:
                return 0.0
            wake_at = self._next_mark
        else:
            wake_at = self._belief.retry_at
        next_look = self._lookout.next_look()
        if next_look is not None:
            wake_at = min(wake_at, next_look)
        return max(0.0, wake_at - self._now())

    # ------------------------------------------------------------------ leaving

    def close(self) -> None:
        """Reserve and mark nothing more."""
        self._draining = True
        super().wake()

    def leave(self, timeout: float) -> bool:
        """Publish what is marked, within ``timeout`` seconds, end the thread, and free what could not be published.

        Return whether all that is left dispatched has surely been published, so that it may be handed over.
        """
        deadline = time.monotonic() + timeout
        self.close()
        if self._thread is None:
            self._hang_up()
        else:
            self._emptied.clear()
            super().wake()
            self._emptied.wait(timeout)
            if not self.stop(max(_LAST_WORDS, deadline - time.monotonic())):
                logger.warning(
                    "executor %r: its broker holds the outbox up; what it was given last is offered again",
                    self.executor,
                )
        if not self._lease.live:
            return False
        published = {entry.task.ref for entry in self._window.held() if entry.published_at is not None}
        try:
            # The journal's word, not this memory's: there may be marks whose answer was lost.
            found = self._journal.tasks.undelivered(self._lease.worker, executor=self.executor)
            doubtful = [ref for ref in found if ref not in published]
            if doubtful:
                self._journal.tasks.defer(doubtful, delay=_NOW)
        except ContinuumError as error:
            logger.warning("executor %r: what was not published could not be freed (%s)", self.executor, error)
            return False
        return True
