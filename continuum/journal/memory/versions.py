"""Here lives the memory wing's record of code: what has been loaded, who needs it, who waits for it.

Whoever calls these holds the store's lock.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Final

from continuum.journal.memory.store import Store
from continuum.model.leases import RecordedVersion, read_mark
from continuum.model.runs import RunState

__all__ = ["list_versions", "retire_versions", "revive"]

# As in the other wing: how far apart revived runs come due, in microseconds.
_APART: Final = 2_000


def list_versions(store: Store) -> list[RecordedVersion]:
    """Return all code on record or that open runs are pinned to."""
    running: Counter[tuple[str, int, str]] = Counter()
    stuck: Counter[tuple[str, int, str]] = Counter()
    oldest: dict[tuple[str, int, str], int] = {}
    for run in store.runs.values():
        if not run.ended:
            code = (run.workflow, run.version, run.version_hash)
            running[code] += 1
            stuck[code] += run.state == RunState.STUCK
            oldest[code] = min(run.created_at, oldest.get(code, run.created_at))
    used = {(name, version_hash) for name, _, version_hash in running}
    codes = [
        *running,
        *((version.name, version.version, version.hash) for key, version in store.versions.items() if key not in used),
    ]
    first_seen = {code: store.first_seen.get((code[0], code[2])) for code in codes}
    codes.sort(key=lambda code: (code[0], code[1], first_seen[code] or oldest.get(code, 0), code[2]))
    return [RecordedVersion(*code, first_seen[code], running[code], stuck[code]) for code in codes]


def retire_versions(store: Store, versions: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Delete the records among these that nothing needs; return which."""
    needed = {(run.workflow, run.version_hash) for run in store.runs.values() if not run.ended}
    unmarked: set[str] = set()
    for worker in store.workers.values():
        marks = filter(None, map(read_mark, worker.version_hashes))
        needed |= {(name, version_hash) for name, _, version_hash in marks}
        if not worker.version_hashes:
            unmarked.update(worker.workflows)
    found = {key for key in versions if key in store.versions and key not in needed}
    retired = sorted((name, version_hash) for name, version_hash in found if name not in unmarked)
    for key in retired:
        del store.versions[key]
        del store.first_seen[key]
    return retired


def revive(store: Store, workflows: frozenset[tuple[str, int]]) -> int:
    """Make stuck runs that nobody holds due, one after the other; return how many."""
    now = store.now()
    asleep = [
        run
        for run in store.timed.values()
        if (run.workflow, run.version) in workflows
        and run.state == RunState.STUCK
        and run.owner is None
        and run.grants == 0
        and run.wake_at is not None
        and run.wake_at > now
        and run.id not in store.locked
    ]
    asleep.sort(key=lambda run: (run.stuck_since or 0, run.id))
    for place, run in enumerate(asleep):
        assert run.wake_at is not None
        store.wake(run, min(run.wake_at, now + place * _APART))
    return len(asleep)
