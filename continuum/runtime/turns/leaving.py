"""Here lives how the turns thread leaves: every run is given back as soon as nothing of it is under way here."""

import threading
import time

from continuum.runtime.turns.desk import Desk
from continuum.runtime.turns.intake import Intake
from continuum.runtime.turns.pool import Pool
from continuum.runtime.turns.slots import SlotTable

__all__ = ["Leaving"]

# After the deadline the releases get this long; a database that does not answer leaves the rest to the sweep.
_LAST_ANSWERS = 1.0


class Leaving:
    """A drain, from the turns thread's side.

    :ivar calm: set once no commit is flying: whatever tasks the pool was promised, it has got.
    """

    def __init__(
        self, *, table: SlotTable, desk: Desk, intake: Intake, pool: Pool | None, stopped: threading.Event
    ) -> None:
        self._table = table
        self._desk = desk
        self._intake = intake
        self._pool = pool
        self._stopped = stopped
        self._deadline: float | None = None
        self.calm = threading.Event()

    @property
    def begun(self) -> bool:
        """Whether a drain was asked for."""
        return self._deadline is not None

    def begin(self, deadline: float) -> None:
        """Leave; at the monotonic ``deadline`` whatever is left."""
        self._deadline = deadline

    def without_lease(self) -> None:
        """Nothing may be sent any more: what there is left belongs to the sweep."""
        if self._deadline is not None:
            self.calm.set()
            if not len(self._table):
                self._stopped.set()

    def give_back(self, *, busy: bool) -> None:
        """Release what is idle, or at the deadline everything. ``busy``: whether a request is in flight."""
        if self._deadline is None:
            return
        now = time.monotonic()
        late = now >= self._deadline
        if not self._table.flying:
            self.calm.set()
        held = set() if self._pool is None else {run_id for run_id, _, _ in self._pool.holding()}
        for slot in self._table:
            idle = slot.commit is None and not slot.queued and not slot.results and not slot.mail
            if late or (idle and slot.run_id not in held):
                self._intake.release(slot)
        settled = not len(self._table) and not self._desk.rights_pending and not busy
        if settled or now >= self._deadline + _LAST_ANSWERS:
            self._stopped.set()
