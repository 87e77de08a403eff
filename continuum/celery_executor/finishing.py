"""Here lives the group commit of outcomes: while one statement is under way, those that wait for the next gather.

In a process whose threads or greenlets run activities side by side (threads, gevent, solo) outcomes that come close
together are written by one statement, and announced by one hint. Nobody waits for company: whoever comes first goes at
once, alone, and takes with the next statement whoever came meanwhile. A prefork child is a batch of one.
"""

import threading
from collections.abc import Sequence

from continuum.errors import ContinuumError
from continuum.journal.protocol import Journal
from continuum.journal.requests import Hint, HintKind
from continuum.model.ids import WorkerId
from continuum.model.tasks import TaskOutcome, TaskRef

__all__ = ["Finisher"]


class _Item:
    __slots__ = ("accepted", "done", "error", "outcome", "worker")

    def __init__(self, worker: WorkerId, outcome: TaskOutcome) -> None:
        self.worker = worker
        self.outcome = outcome
        self.accepted = False
        self.error: Exception | None = None
        self.done = False


class Finisher:
    """Writes outcomes. Any thread.

    :ivar journal: where to.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._gate = threading.Lock()
        self._waiting: list[_Item] = []
        # One statement at a time; those who wait here are the next one's leader and its company.
        self._turn = threading.Lock()

    def finish(self, worker: WorkerId, outcome: TaskOutcome) -> bool:
        """Write an outcome; return whether it was accepted. Raises as the journal does; nothing is tried again."""
        item = _Item(worker, outcome)
        with self._gate:
            self._waiting.append(item)
        led: list[_Item] = []
        with self._turn:
            if not item.done:
                with self._gate:
                    led, self._waiting = self._waiting, []
                self._write(led, item)
        if any(each.accepted for each in led):
            self.journal.hint(Hint(HintKind.MAIL))
        if item.error is not None:
            raise item.error
        return item.accepted

    def _write(self, batch: list[_Item], own: _Item) -> None:
        try:
            for worker in {item.worker: None for item in batch}:
                self._write_of(worker, [item for item in batch if item.worker == worker])
        except BaseException:
            # The leader is being killed (GreenletExit, say). Its company goes on without it; what was written
            # meanwhile is refused then as any second report.
            with self._gate:
                self._waiting = [item for item in batch if not item.done and item is not own] + self._waiting
            raise

    def _write_of(self, worker: WorkerId, items: Sequence[_Item]) -> None:
        try:
            accepted = self.journal.tasks.finish_many(worker, [item.outcome for item in items])
        except Exception as error:  # noqa: BLE001 - it belongs to those who asked
            transient = isinstance(error, ContinuumError) and error.transient
            if len(items) > 1 and not transient:
                # The journal refuses one of these values, and so all of them. Each by itself, then.
                for item in items:
                    self._write_of(worker, [item])
                return
            for item in items:
                item.error, item.done = error, True
            return
        for item in items:
            item.accepted = ref_of(item.outcome) in accepted
            item.done = True


def ref_of(outcome: TaskOutcome) -> TaskRef:
    """Return which attempt an outcome is of."""
    return TaskRef(outcome.run_id, outcome.command, outcome.attempt)
