"""Here lives a journal whose lines are watched: requests are counted, and may be refused or cut off."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from continuum.journal.protocol import Journal, Line
from continuum.journal.requests import Reply, Request

__all__ = ["WatchedJournal"]

Veto = Callable[[Request], Exception | None]


class WatchedLine:
    def __init__(self, line: Line, owner: "WatchedJournal") -> None:
        self._line = line
        self._owner = owner

    @property
    def request(self) -> Request | None:
        return self._line.request

    def fileno(self) -> int:
        return self._line.fileno()

    def send(self, request: Request) -> bool:
        self._owner.sent[type(request).__name__] += 1
        refusal = self._owner.veto(request)
        if refusal is not None:
            raise refusal
        return self._line.send(request)

    def receive(self) -> Reply | None:
        return self._line.receive()

    def wait(self, timeout: float) -> Reply | None:
        return self._line.wait(timeout)

    def close(self) -> None:
        self._line.close()


class WatchedJournal:
    """Passes everything on. ``sent`` counts requests by type; ``veto`` may refuse one."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.sent: Counter[str] = Counter()
        self.veto: Veto = lambda _request: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def open_line(self) -> Line:
        return WatchedLine(self._journal.open_line(), self)
