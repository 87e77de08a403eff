"""A mail reply that was read before a commit, and arrives after its answer, must not deliver a message again.

The mail is read on the desk's line, and consumed on a commit line: their replies come in any order. (A thousand
messages are many packets; the answer to a commit is one.)
"""

import threading
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, wait_signal, workflow
from continuum.journal.open import open_journal
from continuum.journal.protocol import Line
from continuum.journal.requests import CommitRequest, MailReply, Reply, Request
from tests.support.eventually import eventually


@workflow(name="stale.collect")
async def collect(count: int) -> list[Any]:
    return [await wait_signal("s") for _ in range(count)]


class HeldLine:
    """Keeps back commits that consume mail before they are executed, and mail replies after that, when told to."""

    def __init__(self, line: Line, owner: "HeldJournal") -> None:
        self._line, self._owner = line, owner
        self._late: Reply | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._line, name)

    def send(self, request: Request) -> bool:
        owner = self._owner
        if isinstance(request, CommitRequest) and any(c.consumed for c in request.commits) and owner.hold.is_set():
            owner.commit = lambda: self._line.send(request)
            return False
        return self._line.send(request)

    def receive(self) -> Reply | None:
        reply, self._late = self._late if self._late is not None else self._line.receive(), None
        if isinstance(reply, MailReply) and reply.messages and self._owner.commit is not None:
            self._late = reply
            self._owner.late = self
            self._owner.read_again.set()
            if not self._owner.release.is_set():
                return None
            self._late = None
        return reply

    def close(self) -> None:
        self._line.close()


class HeldJournal:
    def __init__(self, journal: Any) -> None:
        self._journal = journal
        self.commit: Any = None
        self.late: Any = None
        self.hold, self.read_again, self.release = threading.Event(), threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def open_line(self) -> Any:
        return HeldLine(self._journal.open_line(), self)


@pytest.mark.timeout(60)
def test_a_late_mail_reply_does_not_deliver_a_signal_twice() -> None:
    journal = HeldJournal(open_journal("memory://"))
    settings: dict[str, Any] = {"poll_interval": timedelta(seconds=60)}
    with Continuum(journal=journal, **settings) as instance, instance.running() as dispatcher:  # type: ignore[arg-type]
        handle = instance.start(collect, 2)
        eventually(lambda: instance.get(handle.id).state == "suspended")
        journal.hold.set()
        handle.signal("s", "one")  # read, delivered; its commit is on its way …
        eventually(lambda: journal.commit is not None)
        dispatcher._turns.mailed()  # … when some other hint makes the desk read the mail once more
        assert journal.read_again.wait(5)
        journal.hold.clear()
        journal.commit()  # the commit lands and is acknowledged
        turns = dispatcher._turns
        eventually(lambda: all(slot.commit is None and not slot.mail for slot in turns._table))
        journal.release.set()  # only now the older mail reply arrives
        journal.late._line._pipe.ring()
        threading.Event().wait(0.3)
        received = [e for e in instance.history(handle.id) if e.type == "signal_received"]
        assert len(received) == 1, "the signal was sent once"
        handle.signal("s", "two")
        assert handle.result(timeout=10) == ["one", "two"]
