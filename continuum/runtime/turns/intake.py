"""Here lives how runs and mail come into memory, and how runs go back."""

import logging
import time
from collections.abc import Callable, Sequence
from itertools import islice

from continuum.config import Settings
from continuum.errors import ContinuumError
from continuum.journal.requests import (
    ClaimReply,
    ClaimRequest,
    InspectReply,
    InspectRequest,
    LookReply,
    MailReply,
    RegrantRequest,
    Reply,
    Request,
)
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun, Grant
from continuum.model.messages import Message
from continuum.runtime.lease import Lease
from continuum.runtime.turns.desk import Desk
from continuum.runtime.turns.pool import Pool
from continuum.runtime.turns.settlement import Settlement
from continuum.runtime.turns.slots import Slot, SlotTable
from continuum.runtime.turns.turning import Turner, explain, is_ordered_to_end
from continuum.telemetry.probes import probe

__all__ = ["Intake"]

logger = logging.getLogger("continuum.runtime")

# One claim loads whole histories: more at once would make the others wait.
_MOST_CLAIMS = 64
_REFUSED_PAUSE = 0.2
# However many runs wait for somebody else's work, this many new ones are taken in when nothing is to be turned here:
# what they wait for may be among them.
_TRICKLE = 8
# Runs that were terminated are told to nobody. Those that have been quiet this long are looked up, some at a time.
_AUDIT_EVERY = 30.0
_MOST_AUDITED = 500


class Intake:
    """Sends the desk's requests and acts on the replies.

    :ivar pause_until: monotonic time before which nothing is asked, after a refusal.
    :ivar turning_since: monotonic time since when workflow code is replayed here, None while it is not.
    """

    def __init__(
        self,
        *,
        settings: Settings,
        table: SlotTable,
        desk: Desk,
        settlement: Settlement,
        turner: Turner,
        pool: Pool | None,
        lease: Lease,
        work_offered: Callable[[], None],
        dead_seen: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._table = table
        self._desk = desk
        self._settlement = settlement
        self._turner = turner
        self._pool = pool
        self._lease = lease
        self._work_offered = work_offered
        self._dead_seen = dead_seen
        self._claim_low = max(1, min(16, settings.active_runs // 4))
        self._audit_at = time.monotonic() + _AUDIT_EVERY
        self.pause_until = 0.0
        self.turning_since: float | None = None

    def next_request(self, *, draining: bool) -> Request | None:
        """Return what to ask the journal now."""
        if time.monotonic() < self.pause_until:
            return None
        self._desk.come_due()
        room = 0 if draining else self._room()
        if not room and self._desk.untold:
            self._desk.untold = False
            self._settlement.freed_runs = True
        return self._desk.next_request(self._lease.worker, room=room)

    def _room(self) -> int:
        if not self._desk.want_claim:
            return 0
        room = self._settings.active_runs - self._table.active
        if room < self._claim_low and self._table.active:
            if self._table.turning:
                return 0
            room = max(room, min(_TRICKLE, self._settings.active_runs))
        room = min(room, _MOST_CLAIMS)
        over = len(self._table) + room - self._settings.cached_runs
        if over > 0:
            # They go when the claim has found something; it may find nothing.
            room -= over - len(self._evictable(over))
        return max(0, room)

    def _evictable(self, count: int) -> list[Slot]:
        """Return up to so many runs that may be given back, least recently used first."""
        busy = set() if self._pool is None else {run_id for run_id, _, _ in self._pool.holding()}
        # Invariant: a run with local tasks in flight stays; its results could not be committed elsewhere. Outcomes of
        # other executors come as mail, wherever the run is by then.
        return list(islice((slot for slot in self._table.coldest() if slot.run_id not in busy), count))

    def _make_room(self, count: int) -> None:
        over = len(self._table) + count - self._settings.cached_runs
        if over > 0:
            for slot in self._evictable(over):
                self.release(slot)

    def release(self, slot: Slot) -> None:
        """Give a run back."""
        self._desk.releases[slot.run_id] = slot.token
        self._settlement.drop(slot)

    def replied(self, request: Request, reply: Reply) -> None:
        """A request of the desk was answered."""
        match reply:
            case ClaimReply(runs=runs) if isinstance(request, RegrantRequest):
                self._desk.regranted(request.grants)
                for run in self._settlement.regranted(request.grants, runs):
                    self._admit(run)
            case ClaimReply(runs=runs):
                probe("claim.answered")
                # Crash: the runs are ours in the database and in nobody's memory; the sweep frees them.
                full = isinstance(request, ClaimRequest) and len(runs) >= request.limit
                if full:
                    self._desk.want_claim = True
                if self._desk.claimed(all_of_it=not full):
                    self._settlement.freed_runs = True
                self._make_room(len(runs))
                for run in runs:
                    self._admit(run)
            case MailReply(messages=messages):
                self._desk.mail_sorted(news=self._sort_mail(messages))
            case InspectReply() if isinstance(request, InspectRequest):
                self._settlement.inspected(request.run_ids, reply)
            case LookReply():
                self._looked(reply)
            case _:
                pass

    def refused(self, request: Request, error: ContinuumError) -> None:
        """A request of the desk was refused; nothing was written."""
        logger.warning("%s was refused: %s", type(request).__name__, error)
        self._desk.refused(request)
        self._tell_of_claim(request)
        if not isinstance(request, RegrantRequest):
            self.pause_until = time.monotonic() + _REFUSED_PAUSE

    def lost(self, request: Request) -> None:
        """Nobody knows what became of a request of the desk."""
        self._desk.lost(request)
        self._tell_of_claim(request)

    def _tell_of_claim(self, request: Request) -> None:
        if isinstance(request, ClaimRequest) and self._desk.claimed(all_of_it=False):
            self._settlement.freed_runs = True

    def _admit(self, run: ClaimedRun) -> None:
        if not self._lease.live:
            return
        grant = Grant(run.run_id, run.token)
        stale = self._table.find(run.run_id)
        if stale is not None:
            self._settlement.drop(stale)
        most = self._settings.max_grants
        if run.grants > most and not is_ordered_to_end(run):
            # It is tried once more after each back-off: whoever survives that resets the count.
            reason = f"it took {most} dispatchers down without making progress"
            self._settlement.stick_grant(grant, reason, grants=most - 1)
            return
        self.turning_since = time.monotonic()
        try:
            slot = self._turner.admit(run)
        except BaseException as error:
            if not isinstance(error, ContinuumError):
                logger.exception("run %s: the engine failed to load it", run.run_id)
            reason = explain(error)
            logger.error("run %s is stuck: %s", run.run_id, reason)  # noqa: TRY400 - the reason says it all
            self._settlement.stick_grant(grant, reason)
            return
        finally:
            self.turning_since = None
        self._table.add(slot)
        self._table.watch_timer(slot)
        self._table.make_ready(slot)

    def _sort_mail(self, messages: Sequence[Message]) -> bool:
        """Put mail into the slots of its runs; return whether any was new."""
        news = here = False
        for message in self._desk.unread(messages):
            slot = self._table.of_chain(message.chain_id)
            if slot is None:
                continue
            here = True
            if message.id not in slot.mail:
                slot.mail[message.id] = message
                self._table.make_ready(slot)
                news = True
        if not here:
            self._desk.read_further()
        return news

    def _looked(self, reply: LookReply) -> None:
        self._sort_mail(reply.messages)
        self._audit()
        for grant in reply.due:
            # A claim of ours whose answer was lost; what is in memory knows its timers and mail itself.
            if self._table.find(grant.run_id) is None and grant.run_id not in self._desk.releases:
                self._desk.regrants[grant.run_id] = grant.token
        if reply.claimable:
            self._desk.want_claim = True
        if reply.tasks:
            self._work_offered()
        if reply.dead:
            self._dead_seen()

    def _audit(self) -> None:
        now = time.monotonic()
        if now < self._audit_at:
            return
        self._audit_at = now + _AUDIT_EVERY
        self._desk.inspects.update(slot.run_id for slot in self._table.quiet(_MOST_AUDITED))

    def doubt(self, run_ids: Sequence[str]) -> None:
        """These runs may have ended without us: look them up."""
        for run_id in run_ids:
            if self._table.find(RunId(run_id)) is not None:
                self._desk.inspects.add(RunId(run_id))
