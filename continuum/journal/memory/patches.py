"""Here lives the question which patches the open runs of the memory wing have answered."""

from collections import Counter

from continuum.journal.memory.store import Store
from continuum.model.events import EventType
from continuum.model.patches import PatchUse

__all__ = ["find_patches"]

_Alike = tuple[str, int, str, bool, bool, tuple[str, ...]]


def find_patches(store: Store) -> list[PatchUse]:
    """Return the open runs, counted, by what they have answered. Whoever calls holds the store's lock."""
    found: Counter[_Alike] = Counter()
    for run in store.tips.values():
        if run.ended:
            continue
        events = store.events[run.id]
        types = {event.type for event in events}
        marked = {event.name or "" for event in events if event.type == EventType.PATCH_MARKED}
        began, adopted = EventType.RUN_BEGAN in types, EventType.VERSION_ADOPTED in types
        found[run.workflow, run.version, run.version_hash, began, adopted, tuple(sorted(marked))] += 1
    return sorted(PatchUse(*alike, runs) for alike, runs in found.items())
