"""Here lives the little upkeep that memory needs."""

from collections.abc import Sequence

import msgspec

from continuum.journal.memory.store import Store
from continuum.model.events import Event, EventType

__all__ = ["MemoryUpkeep"]


class MemoryUpkeep:
    """``Journal.upkeep``."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def ensure_partitions(self, *, months_ahead: int) -> Sequence[str]:  # noqa: ARG002 - memory has no partitions
        """Create nothing."""
        return ()

    def misplaced_events(self) -> int:
        """Return 0: without partitions nothing can be in the wrong one."""
        return 0

    def discard_dead_mail(self, *, limit: int = 1000) -> int:
        """Move mail of ended chains into their history, as notes."""
        store = self._store
        with store.lock:
            dead = [
                message
                for chain_id in store.inbox
                if (tip := store.tips.get(chain_id)) is not None and tip.ended
                for message in store.mail(chain_id)
            ][:limit]
            for message in dead:
                tip = store.tips[message.chain_id]
                what = {
                    "kind": message.kind,
                    "payload": None if message.payload is None else msgspec.Raw(message.payload.encode()),
                }
                tip.last_seq += 1
                store.events[tip.id].append(
                    Event(
                        tip.last_seq,
                        EventType.MESSAGE_UNDELIVERABLE,
                        message.command,
                        message.name,
                        msgspec.json.encode(what).decode(),
                        store.now(),
                    )
                )
                store.discard(message.chain_id, message.id)
            return len(dead)
