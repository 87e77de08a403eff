"""Here lives waiting for results: any number of waiters, one thread, one listening connection, batched looks.

A waiter is a future under a run's id. The thread hears ``DONE`` hints and looks up the named runs that somebody waits
for, all of them in one statement; a floor poll finds what a lost hint should have said. The thread starts with the
first waiter and ends when nobody has waited for a while.

# Invariant: no hint is lost between looking and listening. A waiter is registered first and looked up afterwards, and
it is looked up only once the ears are open. So a run that ends before the look is found by it, and one that ends after
it is heard. New ears (the connection was lost) mean looking up everybody again.
# Invariant: only a run that was expected (before it was written, with the ears open) is not looked up at first. It
stays expected while these ears stay open and have not heard of it; once they are closed, or a hint names nobody,
nothing is expected any more.
"""

import logging
import selectors
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from continuum.errors import ContinuumError, JournalBusy, JournalUnavailable
from continuum.journal.protocol import Ears, Journal
from continuum.journal.requests import HintKind
from continuum.model.events import Event
from continuum.model.ids import RunId
from continuum.model.runs import RunState

__all__ = ["Outcome", "ResultHub"]

logger = logging.getLogger("continuum.client")

Outcome = tuple[RunState, Event]

# The floor under the hints: short at first and after a hint was lost, longer the longer nothing happens. These are
# for a `poll_interval` of two seconds, and follow it.
FIRST_POLL: Final = 1.0
LONGEST_POLL: Final = 5.0
# How long the thread and its connection outlive the last waiter: start→result in a loop should not reconnect.
LINGER: Final = 10.0
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
# Ids per statement.
CHUNK: Final = 1_000
# Runs expected and not waited for (yet); beyond that they are looked up.
MOST_EXPECTED: Final = 10_000


class ResultHub:
    """Hands each waiter the outcome of its run, once the run (its chain's tip) has ended."""

    def __init__(
        self,
        journal: Journal,
        *,
        linger: float = LINGER,
        first_poll: float = FIRST_POLL,
        longest_poll: float = LONGEST_POLL,
    ) -> None:
        self._journal = journal
        self._linger = linger
        self._polls = (first_poll, longest_poll)
        self._lock = threading.Lock()
        self._waiting: defaultdict[RunId, list[Future[Outcome]]] = defaultdict(list)
        self._fresh: set[RunId] = set()
        # Named by a hint and yet not ended: the run continued, and the hint for its tip will carry another id.
        self._chained: set[RunId] = set()
        # Runs that cannot have ended unheard, see above. In a dict, for its order.
        self._expected: dict[RunId, None] = {}
        self._hears = False
        self._thread: threading.Thread | None = None
        self._bell: socket.socket | None = None
        self._closed = False

    @property
    def waiters(self) -> int:
        """How many runs are waited for."""
        return len(self._waiting)

    @property
    def listening(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None

    def expect(self, run_id: RunId) -> None:
        """Take note that a run is about to be written, so that `watch` need not look whether it has ended already."""
        if self._hears:
            with self._lock:
                if self._hears:
                    self._expected[run_id] = None
                    if len(self._expected) > MOST_EXPECTED:
                        del self._expected[next(iter(self._expected))]

    def watch(self, run_id: RunId) -> Future[Outcome]:
        """Return the future outcome of a run that exists; never blocks. Cancel the future to stop waiting."""
        future: Future[Outcome] = Future()
        with self._lock:
            if self._closed:
                message = "this Continuum was closed; nothing can be waited for any more"
                raise ContinuumError(message)
            self._waiting[run_id].append(future)
            if run_id in self._expected:
                del self._expected[run_id]  # from now on it is waited for, and whatever is heard leads to a look
            else:
                self._fresh.add(run_id)
            if self._thread is None:
                here, there = socket.socketpair()
                here.settimeout(0)
                there.settimeout(0)
                self._bell = there
                listener = _Listener(self, self._journal, here, linger=self._linger, polls=self._polls)
                self._thread = threading.Thread(target=listener.run, name="continuum-results", daemon=True)
                self._thread.start()
            else:
                self._ring()
        future.add_done_callback(lambda done: self._forget(run_id, done))
        return future

    def close(self, timeout: float = 10.0) -> None:
        """Stop the thread, close its connection and fail whoever still waits."""
        with self._lock:
            self._closed = True
            thread = self._thread
            self._ring()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self.fail(list(self._waiting), ContinuumError("this Continuum was closed while its result was waited for"))

    # -------------------------------------------------------------- for the listener

    def note_ears(self, *, hear: bool) -> None:
        """Take note that the ears are open, or about to be closed."""
        with self._lock:
            self._hears = hear
            self._expected.clear()

    def take(self, *, heard: Collection[str], everything: bool) -> list[RunId]:
        """Return the runs that are to be looked up now."""
        with self._lock:
            if everything:
                self._expected.clear()
            for run_id in heard if self._expected else ():
                self._expected.pop(RunId(run_id), None)
            due = set(self._waiting) if everything else self._fresh
            self._fresh = set()
            if heard:
                due = due.union(self._waiting.keys() & heard, self._chained)
            return list(due)

    def resolve(self, outcomes: dict[RunId, Outcome], *, missed: Collection[RunId] = ()) -> None:
        """Hand out outcomes; remember the runs that a hint named too early."""
        with self._lock:
            self._chained.update(run_id for run_id in missed if run_id in self._waiting)
            done = [(future, outcomes[run_id]) for run_id in outcomes for future in self._waiting.get(run_id, ())]
        # Outside the lock: callbacks of a future may call us.
        for future, outcome in done:
            if future.set_running_or_notify_cancel():
                future.set_result(outcome)

    def fail(self, run_ids: Collection[RunId], error: Exception) -> None:
        """Hand out an error."""
        with self._lock:
            doomed = [future for run_id in run_ids for future in self._waiting.get(run_id, ())]
        for future in doomed:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)

    def retire(self, *, idle: bool) -> bool:
        """Say whether the listener's thread should end now; if so, the next waiter starts another."""
        with self._lock:
            if self._closed or (idle and not self._waiting):
                self._thread = None
                self._hears = False  # nobody reads them any more
                self._expected.clear()
                if self._bell is not None:
                    self._bell.close()
                    self._bell = None
                return True
            return False

    # -------------------------------------------------------------- helpers

    def _forget(self, run_id: RunId, future: Future[Outcome]) -> None:
        with self._lock:
            futures = self._waiting.get(run_id)
            if futures is None:
                return
            with suppress(ValueError):
                futures.remove(future)
            if not futures:
                del self._waiting[run_id]
                self._fresh.discard(run_id)
                self._chained.discard(run_id)

    def _ring(self) -> None:
        if self._bell is not None:
            with suppress(BlockingIOError):  # a full pipe rings anyway
                self._bell.send(b"\0")


class _Listener:
    """The thread's own state. States: deaf (no ears) → listening; any error makes it deaf again, with a pause."""

    def __init__(
        self, hub: ResultHub, journal: Journal, bell: socket.socket, *, linger: float, polls: tuple[float, float]
    ) -> None:
        self._hub = hub
        self._journal = journal
        self._bell = bell
        self._linger = linger
        self._first_poll, self._longest_poll = polls
        self._poll = self._first_poll
        self._pause = FIRST_PAUSE
        self._look_at = 0.0
        self._ears: Ears | None = None
        self._ears_fd = -1
        self._selector = selectors.DefaultSelector()
        self._selector.register(bell, selectors.EVENT_READ)

    def run(self) -> None:
        """Listen until nobody waits any more."""
        idle_since: float | None = None
        try:
            while not self._hub.retire(idle=idle_since is not None and time.monotonic() - idle_since >= self._linger):
                try:
                    self._listen()
                except (JournalUnavailable, JournalBusy) as error:
                    logger.warning(
                        "waiting for results: the database is away (%s); next try in %.1f s", error, self._pause
                    )
                    self._go_deaf()
                    self._selector.select(self._pause)
                    self._drain_bell()
                    self._pause = min(self._pause * 2, LONGEST_PAUSE)
                except Exception as error:
                    # A schema that does not fit, or a bug: waiting longer helps nobody.
                    logger.exception("waiting for results failed")
                    self._go_deaf()
                    self._hub.fail(self._hub.take(heard=(), everything=True), error)
                if self._hub.waiters:
                    idle_since = None
                elif idle_since is None:
                    idle_since = time.monotonic()
        finally:
            self._go_deaf()
            self._selector.close()
            self._bell.close()

    def _listen(self) -> None:
        """Open the ears and look up everybody, then sleep and look as told; raises when the connection is lost."""
        if self._ears is None:
            if not self._hub.waiters:
                self._selector.select(self._linger)
                self._drain_bell()
                return
            ears = self._journal.open_ears((HintKind.DONE,))
            self._ears, self._ears_fd = ears, ears.fileno()
            self._selector.register(self._ears_fd, selectors.EVENT_READ)
            self._hub.note_ears(hear=True)
            self._look(heard=(), everything=True)
            self._pause = FIRST_PAUSE
        left = self._look_at - time.monotonic() if self._hub.waiters else self._linger
        self._selector.select(max(left, 0.0))
        self._drain_bell()
        hints = self._ears.hear()
        heard = {run_id for hint in hints for run_id in hint.run_ids}
        if hints:
            self._poll = self._first_poll
        # A hint without ids says no more than "somebody ended". The floor counts however much else is heard.
        floor = time.monotonic() >= self._look_at
        found = self._look(heard=heard, everything=floor or any(not hint.run_ids for hint in hints))
        if floor and not hints:
            self._poll = self._first_poll if found else min(self._poll * 1.5, self._longest_poll)

    def _look(self, *, heard: Collection[str], everything: bool) -> int:
        """Look up what is due and hand it out; return how many runs had ended."""
        due = self._hub.take(heard=heard, everything=everything)
        if everything:
            self._look_at = time.monotonic() + self._poll
        found = 0
        for start in range(0, len(due), CHUNK):
            chunk = due[start : start + CHUNK]
            outcomes = dict(self._journal.runs.outcomes(chunk))
            found += len(outcomes)
            missed = [run_id for run_id in chunk if run_id in heard and run_id not in outcomes]
            self._hub.resolve(outcomes, missed=missed)
        return found

    def _drain_bell(self) -> None:
        with suppress(BlockingIOError):
            while self._bell.recv(4096):
                pass

    def _go_deaf(self) -> None:
        ears, self._ears = self._ears, None
        if ears is None:
            return
        self._hub.note_ears(hear=False)
        self._selector.unregister(self._ears_fd)
        with suppress(Exception):  # it is lost, and may say so once more
            ears.close()
