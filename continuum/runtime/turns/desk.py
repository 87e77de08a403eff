"""Here lives the desk: everything the turns thread asks of the journal except commits, on one line, by urgency.

What is wanted is kept as a wish until its reply came; a lost answer simply leaves the wish, or makes a look due. So
no request of the desk has to be repeated by anybody else, and none is sent twice while its outcome is unknown in a
way that matters: claims and re-grants that landed without an answer are found by the next look (``LookReply.due``).

A re-grant is the one wish that waits for a row (see `docs/explanation/protocol.md`), and somebody may keep that row
locked for an hour. So what was refused is asked for again by itself, ever more rarely, and in turn with all the rest:
neither the runs it was asked for with nor anybody else waits for that lock.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta

from continuum.journal.requests import (
    ClaimRequest,
    InspectRequest,
    LookRequest,
    MailRequest,
    RegrantRequest,
    ReleaseRequest,
    Request,
    StickRequest,
)
from continuum.model.ids import RunId, WorkerId
from continuum.model.leases import Grant
from continuum.model.messages import Message

__all__ = ["Desk"]

MAIL_LIMIT = 1_000
# How far a reading goes at most past the mail of runs that are ours and not here (see `read_further`).
_MOST_MAIL = 16 * MAIL_LIMIT
_ROUND = ("mail", "claim", "look", "regrant")
_REGRANT_LIMIT = 100
_RELEASE_LIMIT = 500
# While mail for runs that are here keeps coming, hints of mail cause a claim no more often than this.
_CLAIM_PAUSE = 0.05
# After which pause a re-grant that was refused is asked for again: at first, and at most.
_FIRST_PUT_OFF = 0.25
_LONGEST_PUT_OFF = 8.0


class Desk:
    """Chooses the next request. Pure bookkeeping; the thread sends and receives."""

    def __init__(
        self,
        *,
        workflows: tuple[tuple[str, int], ...],
        hashes: tuple[str, ...] = (),
        queues: tuple[str, ...] | None,
        executors: Callable[[], tuple[str, ...]],
        poll: timedelta,
    ) -> None:
        self._workflows = workflows
        self._hashes = hashes
        self._loaded = frozenset(workflows)
        self._queues = queues
        self._executors = executors
        self._poll = poll.total_seconds()
        self.regrants: dict[RunId, int] = {}
        self.inspects: set[RunId] = set()
        self.sticks: deque[StickRequest] = deque()
        self.releases: dict[RunId, int] = {}
        self.want_mail = False
        self.want_claim = True
        # Whether runs of ours wait to be claimed that nobody else has been told of; whether a claim for them is made.
        self.untold = False
        self._telling = False
        self.look_at = 0.0
        self._claim_at = math.inf
        self._claim_after_mail = False
        self._news_at = -math.inf
        # While mail is being read on this line, a commit may be acknowledged on another one. What it consumed is
        # remembered, because the reading may have begun before it.
        self.reading = False
        self.eaten: set[int] = set()
        self._more_mail = False
        self._mail_limit = MAIL_LIMIT
        self._full = False
        self._next = 0
        # Re-grants that were refused: from when they may be asked for again, and the pause that ends then.
        self._put_off: dict[RunId, tuple[float, float]] = {}

    def clear(self) -> None:
        """Forget all wishes: the worker id they were made under is lost."""
        self.regrants.clear()
        self._put_off.clear()
        self.inspects.clear()
        self.sticks.clear()
        self.releases.clear()
        self.want_mail = self.reading = self._claim_after_mail = self.untold = self._telling = False
        self.want_claim = True
        self.look_at = 0.0

    @property
    def rights_pending(self) -> bool:
        """Whether grants wait to be settled or given back."""
        return bool(self.regrants or self.inspects or self.sticks or self.releases)

    def look_now(self) -> None:
        """Hints may have been missed, or an answer was lost."""
        self.look_at = 0.0

    def inserted(self, runs: Iterable[tuple[str, int]]) -> bool:
        """A commit of ours has inserted runs of these workflows and versions; return whether to tell others at once.

        Mostly the claim that follows takes all of them: a hint would make everybody look for nothing, us included. So
        others are told of what is left by it (`claimed`), and of what has no code here.
        """
        self.want_claim = self.untold = True
        return not self._loaded.issuperset(runs)

    def claimed(self, *, all_of_it: bool) -> bool:
        """A claim was answered (or its answer was lost); return whether others should be told of what it has left."""
        telling, self._telling = self._telling, False
        return telling and not all_of_it

    @property
    def next_at(self) -> float:
        """Monotonic time from which there is something to ask, though nobody wishes it."""
        if not self._put_off:  # asked for in every pass, and hardly ever is there any
            return min(self.look_at, self._claim_at)
        put_off = [at for run_id, (at, _) in self._put_off.items() if run_id in self.regrants]
        return min(self.look_at, self._claim_at, *put_off)

    def heard_of_mail(self, *, held: bool) -> None:
        """Somebody has mail: a run that is here (``held``: there are some), or a free one, which a claim would find.

        A step that ran elsewhere ends with such a hint. Its mail is read first: if it is for a run that is here, the
        claim can wait a little, and so cost nothing where many such hints come.
        """
        self.want_mail = held
        self._claim_after_mail = held
        if not held:
            self.want_claim = True

    def come_due(self) -> None:
        """Wish for what was put off until now."""
        if time.monotonic() >= self._claim_at:
            self._claim_at = math.inf
            self.want_claim = True

    def mail_sorted(self, *, news: bool) -> None:
        """Mail was read; ``news``: some of it was not known yet."""
        now = time.monotonic()
        if news:
            self._news_at = now
        if self._claim_after_mail:
            self._claim_after_mail = False
            if now >= self._news_at + _CLAIM_PAUSE:
                self.want_claim = True
            else:
                self._claim_at = min(self._claim_at, now + _CLAIM_PAUSE)

    def next_request(self, worker: WorkerId, *, room: int) -> Request | None:
        """Return what to send now. ``room``: how many more runs may be claimed."""
        if self.regrants:
            first = [run_id for run_id in self.regrants if run_id not in self._put_off]
            if first:
                return self._regrant(worker, first[:_REGRANT_LIMIT])
        if self.inspects:
            run_ids = tuple(list(self.inspects)[:_REGRANT_LIMIT])
            self.inspects.difference_update(run_ids)
            return InspectRequest(run_ids)
        if self.sticks:
            return self.sticks.popleft()
        if self.releases:
            grants = tuple(Grant(run, token) for run, token in list(self.releases.items())[:_RELEASE_LIMIT])
            for grant in grants:
                del self.releases[grant.run_id]
            return ReleaseRequest(worker, grants)
        # The others take turns: mail that never ends must not keep new runs out, nor the look that finds the rest.
        for kind in (*_ROUND[self._next :], *_ROUND[: self._next]):
            request = self._wanted(kind, worker, room)
            if request is not None:
                self._next = (_ROUND.index(kind) + 1) % len(_ROUND)
                return request
        return None

    def _wanted(self, kind: str, worker: WorkerId, room: int) -> Request | None:
        if kind == "mail" and self.want_mail:
            self.want_mail = False
            self._begin_reading()
            return MailRequest(worker, self._mail_limit)
        if kind == "claim" and self.want_claim and room > 0 and self._workflows:
            self.want_claim = False
            self._telling, self.untold = self.untold, False
            return ClaimRequest(worker, self._workflows, room, self._hashes)
        if kind == "look" and time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + self._poll
            self._begin_reading()
            return LookRequest(worker, self._workflows, self._queues, self._mail_limit, self._executors(), self._hashes)
        if kind == "regrant" and self._put_off:
            now = time.monotonic()
            due = [run_id for run_id, (at, _) in self._put_off.items() if at <= now and run_id in self.regrants]
            if due:
                return self._regrant(worker, due[:1])
        return None

    def _regrant(self, worker: WorkerId, run_ids: Iterable[RunId]) -> RegrantRequest:
        return RegrantRequest(worker, tuple(Grant(run_id, self.regrants.pop(run_id)) for run_id in run_ids))

    def regranted(self, grants: Iterable[Grant]) -> None:
        """Re-grants were answered."""
        for grant in grants:
            self._put_off.pop(grant.run_id, None)

    def _begin_reading(self) -> None:
        self.reading = True
        self.eaten.clear()

    def consumed(self, message_ids: Iterable[int]) -> None:
        """A commit that deleted these messages was acknowledged."""
        if self.reading:
            self.eaten.update(message_ids)
        if self._more_mail:
            # Only now: before, the same messages would have been read again.
            self._more_mail = False
            self.want_mail = True

    def unread(self, messages: Iterable[Message]) -> list[Message]:
        """Mail was read: return what no commit has consumed since the reading began."""
        self.reading = False
        messages = list(messages)
        self._full = self._more_mail = len(messages) >= self._mail_limit
        if not self._full:
            self._mail_limit = MAIL_LIMIT
        return [message for message in messages if message.id not in self.eaten]

    def read_further(self) -> None:
        """What was read is all for runs that are not here: ours, but locked by somebody, so that nothing consumes it.

        The oldest is read first. A reading that was full would find the same again, and no other run's mail.
        """
        if self._full and self._mail_limit < _MOST_MAIL:
            self._mail_limit *= 2
            self.want_mail = True

    def refused(self, request: Request) -> None:
        """Nothing was written: keep the wish, or look. A re-grant is put off, because its row is somebody else's."""
        if not isinstance(request, RegrantRequest):
            self.lost(request)
            return
        now = time.monotonic()
        for grant in request.grants:
            _, pause = self._put_off.get(grant.run_id, (0.0, _FIRST_PUT_OFF / 2))
            pause = min(2 * pause, _LONGEST_PUT_OFF)
            self._put_off[grant.run_id] = now + pause, pause
            self.regrants.setdefault(grant.run_id, grant.token)

    def lost(self, request: Request) -> None:
        """The answer was lost: keep the wish, or look."""
        match request:
            case RegrantRequest(grants=grants):
                self.regranted(grants)
                # The token may have risen without our hearing of it: ask for it first.
                self.inspects.update(grant.run_id for grant in grants)
            case InspectRequest(run_ids=run_ids):
                self.inspects.update(run_ids)
            case MailRequest():
                self.want_mail = True
            case _:
                self.look_now()
