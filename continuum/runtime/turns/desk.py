"""Here lives the desk: everything the turns thread asks of the journal except commits, on one line, by urgency.

What is wanted is kept as a wish until its reply came; a lost answer simply leaves the wish, or makes a look due. So
no request of the desk has to be repeated by anybody else, and none is sent twice while its outcome is unknown in a
way that matters: claims and re-grants that landed without an answer are found by the next look (``LookReply.due``).
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
_ROUND = ("mail", "claim", "look")
_REGRANT_LIMIT = 100
_RELEASE_LIMIT = 500
# While mail for runs that are here keeps coming, hints of mail cause a claim no more often than this.
_CLAIM_PAUSE = 0.05


class Desk:
    """Chooses the next request. Pure bookkeeping; the thread sends and receives."""

    def __init__(
        self,
        *,
        workflows: tuple[tuple[str, int], ...],
        queues: tuple[str, ...] | None,
        executors: Callable[[], tuple[str, ...]],
        poll: timedelta,
    ) -> None:
        self._workflows = workflows
        self._queues = queues
        self._executors = executors
        self._poll = poll.total_seconds()
        self.regrants: dict[RunId, int] = {}
        self.inspects: set[RunId] = set()
        self.sticks: deque[StickRequest] = deque()
        self.releases: dict[RunId, int] = {}
        self.want_mail = False
        self.want_claim = True
        self.look_at = 0.0
        self._claim_at = math.inf
        self._claim_after_mail = False
        self._news_at = -math.inf
        # While mail is being read on this line, a commit may be acknowledged on another one. What it consumed is
        # remembered, because the reading may have begun before it.
        self.reading = False
        self.eaten: set[int] = set()
        self._more_mail = False
        self._next = 0

    def clear(self) -> None:
        """Forget all wishes: the worker id they were made under is lost."""
        self.regrants.clear()
        self.inspects.clear()
        self.sticks.clear()
        self.releases.clear()
        self.want_mail = self.reading = self._claim_after_mail = False
        self.want_claim = True
        self.look_at = 0.0

    @property
    def rights_pending(self) -> bool:
        """Whether grants wait to be settled or given back."""
        return bool(self.regrants or self.inspects or self.sticks or self.releases)

    def look_now(self) -> None:
        """Hints may have been missed, or an answer was lost."""
        self.look_at = 0.0

    @property
    def next_at(self) -> float:
        """Monotonic time from which there is something to ask, though nobody wishes it."""
        return min(self.look_at, self._claim_at)

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
            grants = tuple(Grant(run, token) for run, token in list(self.regrants.items())[:_REGRANT_LIMIT])
            for grant in grants:
                del self.regrants[grant.run_id]
            return RegrantRequest(worker, grants)
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
        # The other three take turns: mail that never ends must not keep new runs out, nor the look that finds the rest.
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
            return MailRequest(worker, MAIL_LIMIT)
        if kind == "claim" and self.want_claim and room > 0 and self._workflows:
            self.want_claim = False
            return ClaimRequest(worker, self._workflows, room)
        if kind == "look" and time.monotonic() >= self.look_at:
            self.look_at = time.monotonic() + self._poll
            self._begin_reading()
            return LookRequest(worker, self._workflows, self._queues, MAIL_LIMIT, self._executors())
        return None

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
        self._more_mail = len(messages) >= MAIL_LIMIT
        return [message for message in messages if message.id not in self.eaten]

    def lost(self, request: Request) -> None:
        """The answer was lost: keep the wish, or look."""
        match request:
            case RegrantRequest(grants=grants):
                # The token may have risen without our hearing of it: ask for it first.
                self.inspects.update(grant.run_id for grant in grants)
            case InspectRequest(run_ids=run_ids):
                self.inspects.update(run_ids)
            case MailRequest():
                self.want_mail = True
            case _:
                self.look_now()
