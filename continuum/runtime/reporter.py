"""Here lives telling the journal, in the background, until it has heard.

What an attempt came to must reach the journal even if the database is away for an hour, and neither the thread of a
body nor the watch over time limits may wait for that. A few threads of their own do, each item with its own growing
pause. Items of one job do not depend on the order of others.
"""

import heapq
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from continuum.errors import ContinuumError

__all__ = ["Report", "Reporter", "Reports"]

logger = logging.getLogger("continuum.runtime")

Report = Callable[[], float | None]
"""Tells the journal one thing; returns None when that is done, or in how many seconds to call again."""


class Reports(Protocol):
    """Takes reports in and sees to it that the journal hears of them."""

    def put(self, report: Report, *, after: float = 0.0, give_up: Callable[[], None] | None = None) -> None:
        """Call a report soon, or in ``after`` seconds; after a failure of the journal again and again.

        :param give_up: called if it will not be called any more although it never succeeded.
        """


# Each waits for the database most of the time; more of them would only queue up there.
_THREADS: Final = 4
_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 5.0
# An error that is not the database's absence does not go away by itself; the claim is swept or reconciled later.
_MOST_BUGS: Final = 5


class _Item:
    __slots__ = ("bugs", "give_up", "pause", "report")

    def __init__(self, report: Report, give_up: Callable[[], None] | None) -> None:
        self.report = report
        self.give_up = give_up
        self.pause = _FIRST_PAUSE
        self.bugs = 0


class Reporter:
    """Threads that call reports again until they succeed."""

    def __init__(self, *, threads: int = _THREADS) -> None:
        self._most = threads
        self._change = threading.Condition(threading.Lock())
        self._heap: list[tuple[float, int, _Item]] = []
        self._ticket = itertools.count()
        self._threads = 0
        self._idle = 0
        self._open = 0  # items put and not yet over
        self._ending = False  # threads end when nothing waits
        self._over = False  # nobody waits for second tries any more

    def put(self, report: Report, *, after: float = 0.0, give_up: Callable[[], None] | None = None) -> None:
        """Call a report soon, or in ``after`` seconds; after a failure of the journal again and again.

        :param give_up: called if the report fails for another reason several times.
        """
        with self._change:
            self._open += 1
            self._push(_Item(report, give_up), after)

    def nudge(self) -> None:
        """Try again to start a thread, if there was none to be had."""
        with self._change:
            if self._heap and not self._idle:
                self._grow()

    @property
    def pending(self) -> int:
        """How many reports are not over yet."""
        return self._open

    def stop(self, timeout: float) -> bool:
        """Call everything that waits once at once, then as time permits; return whether everything was reported.

        The threads end when there is nothing left. A report that is put later is still called, once; call `stop` again
        to wait for it.
        """
        with self._change:
            self._ending = True
            if self._heap and not self._idle:
                self._grow()
            self._heap = [(0.0, ticket, item) for _, ticket, item in self._heap]
            heapq.heapify(self._heap)
            self._change.notify_all()
            reported = self._change.wait_for(lambda: not self._open, timeout)
            self._over = True
            self._open -= len(self._heap)
            self._heap.clear()
            self._change.notify_all()
        return reported

    # ------------------------------------------------------------------ inner; all of it with the lock held

    def _push(self, item: _Item, after: float) -> None:
        heapq.heappush(self._heap, (time.monotonic() + after, next(self._ticket), item))
        if self._idle:
            self._change.notify()
        else:
            self._grow()

    def _grow(self) -> None:
        if self._threads >= self._most:
            return
        thread = threading.Thread(target=self._work, name=f"continuum-reports-{self._threads + 1}", daemon=True)
        try:
            thread.start()  # it waits for the lock
        except (RuntimeError, MemoryError) as error:
            logger.warning("no thread could be started for reports (%s); %d wait", error, len(self._heap))
        else:
            self._threads += 1

    def _work(self) -> None:
        with self._change:
            while self._heap or not self._ending:
                item = self._take()
                if item is None:
                    continue
                self._change.release()
                try:
                    again = self._call(item)
                finally:
                    self._change.acquire()
                if again is None or self._over:
                    self._open -= 1
                    self._change.notify_all()
                else:
                    self._push(item, again)
            self._threads -= 1

    def _take(self) -> _Item | None:
        if self._heap:
            wait = self._heap[0][0] - time.monotonic()
            if wait <= 0:
                return heapq.heappop(self._heap)[2]
        else:
            wait = None
        self._idle += 1
        self._change.wait(wait)
        self._idle -= 1
        return None

    # ------------------------------------------------------------------ without the lock

    def _call(self, item: _Item) -> float | None:
        try:
            again = item.report()
        except BaseException as error:
            if isinstance(error, ContinuumError) and error.transient:
                logger.warning("the journal is away (%s); an attempt is reported again in %.1f s", error, item.pause)
            else:
                item.bugs += 1
                logger.exception("an attempt could not be reported; try %d of %d", item.bugs, _MOST_BUGS)
                if item.bugs >= _MOST_BUGS:
                    self._give_up(item)
                    return None
            again, item.pause = item.pause, min(item.pause * 2, _LONGEST_PAUSE)
        return again

    @staticmethod
    def _give_up(item: _Item) -> None:
        if item.give_up is not None:
            try:
                item.give_up()
            except BaseException:
                logger.exception("an attempt that could not be reported could not be let go of either")
