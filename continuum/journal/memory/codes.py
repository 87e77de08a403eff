"""Here lives which code's runs a dispatcher of the memory wing may take, and when a stuck one is tried again."""

from collections.abc import Sequence
from functools import cached_property
from itertools import zip_longest

from continuum.journal.memory.rows import RunRow, WorkerRow, micros
from continuum.journal.memory.store import Store
from continuum.journal.requests import StickRequest
from continuum.model.leases import code_mark

__all__ = ["Codes", "backoff_of"]


class Codes:
    """What one claim or look may take: runs of the very code loaded, and of code that no living worker has."""

    def __init__(self, store: Store, workflows: Sequence[tuple[str, int]], hashes: Sequence[str]) -> None:
        self._store = store
        self._loaded = dict(zip_longest(workflows, hashes[: len(workflows)]))

    def take(self, run: RunRow) -> bool:
        """Whether the run may be taken, as far as its code goes."""
        code = (run.workflow, run.version)
        if code not in self._loaded:
            return False
        if self._loaded[code] == run.version_hash:
            return True
        mark = code_mark(run.workflow, run.version, run.version_hash)
        return mark not in self._held and run.workflow not in self._unmarked

    @cached_property
    def _living(self) -> list[WorkerRow]:
        now = self._store.now()
        return [row for row in self._store.workers.values() if row.expires_at > now]

    @cached_property
    def _held(self) -> frozenset[str]:
        return frozenset(mark for row in self._living for mark in row.version_hashes)

    @cached_property
    def _unmarked(self) -> frozenset[str]:
        return frozenset(name for row in self._living if not row.version_hashes for name in row.workflows)


def backoff_of(store: Store, run: RunRow, request: StickRequest) -> int:
    """Return for how many microseconds a stuck run is left alone."""
    shortest = micros(request.backoff)
    if request.longest is None:
        return shortest
    now = store.now()
    starts = [
        row.started_at for row in store.workers.values() if row.expires_at > now and run.workflow in row.workflows
    ]
    since = max(now if run.stuck_since is None else run.stuck_since, *starts, 0)
    return max(shortest, min(now - since, micros(request.longest)))
