"""Here lives a settlement with its table and its desk, without a thread, a line or a database."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from continuum.config import Settings
from continuum.model.ids import ChainId, RunId
from continuum.runtime.lease import Lease
from continuum.runtime.turns.desk import Desk
from continuum.runtime.turns.outlets import Outlets
from continuum.runtime.turns.settlement import Settlement
from continuum.runtime.turns.slots import Slot, SlotTable

__all__ = ["Settling"]


class Settling:
    """Holds runs whose commits a test answers itself."""

    def __init__(self) -> None:
        clock: Any = SimpleNamespace(now_us=lambda: 0)
        outlets = Outlets(executor="local", pool=None, find_outlet=lambda _: None, clock=clock, deadline=timedelta(1))
        self.lease = Lease(timedelta(seconds=30))
        self.table = SlotTable()
        self.desk = Desk(workflows=(("flow", 1),), queues=(), executors=lambda: (), poll=timedelta(hours=1))
        self.settlement = Settlement(
            table=self.table,
            desk=self.desk,
            outlets=outlets,
            lease=self.lease,
            settings=Settings(stuck_backoff=timedelta(seconds=1)),
        )

    def hold(self, run_id: str, chain_id: str | None = None) -> Slot:
        """Take in a run."""
        execution: Any = SimpleNamespace(ended=False, evict=lambda: None, earliest_timer=None)
        slot = Slot(
            run_id=RunId(run_id),
            chain_id=ChainId(chain_id or run_id),
            workflow="flow",
            parent=None,
            token=1,
            execution=execution,
            row_wake=None,
            retention_us=None,
            adopt=None,
            last_at=0,
        )
        self.table.add(slot)
        return slot
