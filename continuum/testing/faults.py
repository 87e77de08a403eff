"""Here lives what goes wrong on purpose: crashes, restarts, lost hints and lost answers.

A workflow's result must be the same with any of them. What may differ is how often an activity was tried: an attempt
that was under way when its process died counts, as it does in production.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from continuum.errors import ConfigError, JournalUnavailable
from continuum.journal.protocol import Ears, Journal, Line
from continuum.journal.requests import (
    ClaimReply,
    CommitRequest,
    Hint,
    HintKind,
    HintRequest,
    LookRequest,
    Reply,
    Request,
    StickRequest,
)
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun
from continuum.telemetry.probes import armed

__all__ = ["Crashed", "Faults", "Restarted", "Strikes", "WatchedJournal"]

CRASH_POINTS: Final = (
    "attempt.posted",
    "attempt.retried",
    "attempt.returned",
    "claim.answered",
    "commit.answered",
    "commit.sending",
    "commit.sent",
    "commit.settled",
)
_SETTLED: Final = "commit.settled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What goes wrong in a harness.

    :ivar crash_at: where the process dies: ``"commit.sent"``, or ``"commit.sent:3"`` for the third time it comes by,
        or several of these. Points are attempt.posted, attempt.retried, attempt.returned, claim.answered,
        commit.sending, commit.sent, commit.answered and commit.settled. Another process takes over at once; whatever
        the dead one had in memory is gone, and each attempt that was under way counts.
    :ivar lose_hints: no hint arrives; what they would have said is found by looking.
    :ivar lose_answers: commits are written, and nobody hears of it.
    """

    crash_at: str | Sequence[str] = ()
    lose_hints: bool = False
    lose_answers: bool = False

    def __post_init__(self) -> None:
        self.points()

    def points(self) -> list[tuple[str, int]]:
        """Return the probes to die at, and at which pass. Raises ``ConfigError``."""
        wanted = (self.crash_at,) if isinstance(self.crash_at, str) else tuple(self.crash_at)
        found: list[tuple[str, int]] = []
        for text in wanted:
            name, _, count = text.partition(":")
            if name not in CRASH_POINTS or not (count or "1").isdecimal() or int(count or 1) < 1:
                message = (
                    f"crash_at={text!r} is not valid: write one of {', '.join(CRASH_POINTS)}, and perhaps the number of"
                    " the pass, as in 'commit.sent:2'."
                )
                raise ConfigError(message)
            found.append((name, int(count or 1)))
        return found


class Crashed(BaseException):
    """The process has died here."""


class Restarted(BaseException):
    """All runs are dropped here; what has begun goes on."""


class Strikes:
    """Counts passes of probes, and lets the process die, or restart, at those that were asked for."""

    def __init__(self, faults: Faults, *, restart_always: bool) -> None:
        self._left: dict[str, list[int]] = {}
        for name, count in faults.points():
            self._left.setdefault(name, []).append(count)
        self._passes = dict.fromkeys(self._left, 0)
        self._restart = restart_always

    @contextmanager
    def armed(self) -> Iterator[None]:
        """Strike in this block, on this thread."""
        names = {*self._left, *((_SETTLED,) if self._restart else ())}
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(armed(name, self._action(name), here=True))
            yield

    def _action(self, name: str) -> Callable[[], None]:
        def strike() -> None:
            if name in self._left:
                self._passes[name] += 1
                if self._passes[name] in self._left[name]:
                    raise Crashed(name)
            if self._restart and name == _SETTLED:
                raise Restarted

        return strike


class WatchedJournal:
    """A memory journal whose lines and ears are watched, and perhaps broken. Everything else is the journal's own.

    :ivar traffic: requests sent and answers heard so far, looks not counted.
    :ivar flying: requests whose answer nobody has fetched yet.
    :ivar broken: lines that were lost and are not open again.
    :ivar stuck: runs that were set aside, and why.
    """

    def __init__(self, journal: Journal, *, faults: Faults, loaded: Callable[[Sequence[ClaimedRun]], None]) -> None:
        self._journal = journal
        self._faults = faults
        self.loaded = loaded
        self.traffic = 0
        self.flying = 0
        self.broken = 0
        self.stuck: dict[RunId, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    @property
    def whole(self) -> Journal:
        """Itself, as a journal."""
        return cast("Journal", self)

    def open_line(self) -> Line:
        """Return a watched line."""
        self.broken = max(0, self.broken - 1)
        return _WatchedLine(self, self._journal.open_line(), self._faults)

    def open_ears(self, kinds: Sequence[HintKind]) -> Ears:
        """Return ears, perhaps deaf ones."""
        return self._journal.open_ears(() if self._faults.lose_hints else kinds)

    def hint(self, hint: Hint) -> None:
        """Tell all ears."""
        if not self._faults.lose_hints:
            self._journal.hint(hint)


class _WatchedLine:
    """A :class:`~continuum.journal.protocol.Line`."""

    def __init__(self, journal: WatchedJournal, line: Line, faults: Faults) -> None:
        self._journal = journal
        self._line = line
        self._faults = faults

    @property
    def request(self) -> Request | None:
        """The request in flight."""
        return self._line.request

    def fileno(self) -> int:
        """Return the descriptor of the line."""
        return self._line.fileno()

    def send(self, request: Request) -> bool:
        """Send a request, and note it."""
        journal = self._journal
        if not isinstance(request, LookRequest):
            journal.traffic += 1
        if isinstance(request, StickRequest):
            journal.stuck[request.grant.run_id] = request.reason
        elif isinstance(request, HintRequest) and self._faults.lose_hints:
            request = HintRequest(())
        answered = self._line.send(request)
        journal.flying += 1
        return answered

    def receive(self) -> Reply | None:
        """Return the answer, unless it is to be lost."""
        request = self._line.request
        if request is None:
            return self._line.receive()
        self._journal.flying -= 1
        reply = self._line.receive()
        if not isinstance(request, LookRequest):
            self._journal.traffic += 1
        if isinstance(reply, ClaimReply):
            self._journal.loaded(reply.runs)
        if self._faults.lose_answers and isinstance(request, CommitRequest):
            self._journal.broken += 1
            message = "the answer was lost on purpose"
            raise JournalUnavailable(message)
        return reply

    def wait(self, timeout: float) -> Reply | None:
        """Return the answer at once."""
        del timeout
        return self.receive()

    def close(self) -> None:
        """Close the line, whatever is in flight."""
        if self._line.request is not None:
            self._journal.flying -= 1
        self._line.close()
