"""The desk's wishes: hints of mail read it first, and claim what may be free without doing so at each step; what was
refused because somebody has locked a row holds up nobody."""

import time
from datetime import timedelta
from itertools import pairwise

import pytest

from continuum.journal.requests import ClaimRequest, InspectRequest, LookRequest, MailRequest, RegrantRequest, Request
from continuum.model.events import EventType
from continuum.model.ids import ChainId, RunId, WorkerId
from continuum.model.leases import Grant
from continuum.model.messages import Message
from continuum.runtime.turns.desk import MAIL_LIMIT, Desk

WORKER = WorkerId("w")


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found = [time.monotonic()]
    monkeypatch.setattr("continuum.runtime.turns.desk.time.monotonic", lambda: found[0])
    return found


@pytest.fixture
def desk(now: list[float]) -> Desk:
    made = Desk(workflows=(("w", 1),), queues=(), executors=lambda: ("celery",), poll=timedelta(seconds=2))
    look = asked(made)
    assert isinstance(look, ClaimRequest | LookRequest)
    while asked(made) is not None:
        pass
    return made


def asked(desk: Desk) -> Request | None:
    desk.come_due()
    return desk.next_request(WORKER, room=5)


def test_a_hint_of_mail_without_news_is_followed_by_a_claim(desk: Desk) -> None:
    desk.heard_of_mail(held=True)
    assert isinstance(asked(desk), MailRequest)
    assert asked(desk) is None, "it may all be for runs that are here"
    desk.mail_sorted(news=False)
    assert isinstance(asked(desk), ClaimRequest)


def test_without_runs_in_memory_mail_can_only_be_for_free_ones(desk: Desk) -> None:
    desk.heard_of_mail(held=False)
    assert isinstance(asked(desk), ClaimRequest)
    assert asked(desk) is None


def test_while_there_is_news_hints_of_mail_cause_few_claims(desk: Desk, now: list[float]) -> None:
    claims = 0
    for _ in range(100):
        desk.heard_of_mail(held=True)
        while (request := asked(desk)) is not None:
            if isinstance(request, MailRequest):
                desk.mail_sorted(news=True)
            claims += isinstance(request, ClaimRequest)
        assert desk.next_at <= now[0] + 0.05
        now[0] += 0.005
    assert 5 <= claims <= 11


def test_a_claim_that_was_put_off_is_made_though_no_more_hints_come(desk: Desk, now: list[float]) -> None:
    desk.heard_of_mail(held=True)
    assert isinstance(asked(desk), MailRequest)
    desk.mail_sorted(news=True)
    assert asked(desk) is None
    now[0] = desk.next_at
    assert isinstance(asked(desk), ClaimRequest)
    assert desk.next_at > now[0] + 1


def test_a_look_asks_for_the_free_tasks_of_all_outboxes(desk: Desk, now: list[float]) -> None:
    now[0] += 3
    request = asked(desk)
    assert isinstance(request, LookRequest)
    assert request.executors == ("celery",)


def test_a_regrant_that_was_refused_is_asked_for_by_itself_in_turn_with_the_rest_and_ever_more_rarely(
    desk: Desk, now: list[float]
) -> None:
    locked, free = RunId("locked"), RunId("free")
    desk.regrants.update({locked: 1, free: 2})
    request = asked(desk)
    assert request == RegrantRequest(WORKER, (Grant(locked, 1), Grant(free, 2)))
    desk.refused(request)
    desk.want_mail = True
    assert isinstance(asked(desk), MailRequest), "nobody else waits for the row"
    assert asked(desk) is None
    tried = []
    for _ in range(100):
        now[0] = max(now[0], desk.next_at)
        request = asked(desk)
        if isinstance(request, RegrantRequest):
            [grant] = request.grants
            if grant == Grant(free, 2):
                desk.regranted(request.grants)
            else:
                tried.append(now[0])
                desk.refused(request)
    assert free not in desk.regrants, "it is not refused with the other"
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert pauses[0] == pytest.approx(0.5, abs=0.01)
    assert max(pauses) == pytest.approx(8, abs=0.01)


def test_a_regrant_that_was_put_off_is_like_any_other_once_it_was_answered(desk: Desk, now: list[float]) -> None:
    run_id = RunId("locked")
    desk.regrants[run_id] = 1
    request = asked(desk)
    assert isinstance(request, RegrantRequest)
    desk.refused(request)
    now[0] = desk.next_at
    assert asked(desk) == request
    desk.lost(request)
    assert asked(desk) == InspectRequest((run_id,))
    desk.regrants[run_id] = 1
    assert asked(desk) == request, "at once"


def test_mail_of_runs_that_are_not_here_does_not_hide_what_came_after_it(desk: Desk) -> None:
    def letters(count: int) -> list[Message]:
        return [
            Message(number, ChainId("c"), None, EventType.SIGNAL_RECEIVED, None, "s", "1") for number in range(count)
        ]

    def read(count: int) -> None:
        desk.unread(letters(count))
        desk.read_further()

    desk.want_mail = True
    request = asked(desk)
    limits = []
    while isinstance(request, MailRequest):
        limits.append(request.limit)
        read(request.limit)
        request = asked(desk)
    assert limits == [MAIL_LIMIT << doublings for doublings in range(5)], "and then it waits for the next hint"
    for count, then in ((MAIL_LIMIT, MAIL_LIMIT), (0, MAIL_LIMIT)):
        desk.want_mail = True
        assert isinstance(asked(desk), MailRequest)
        read(count)
        desk.want_mail = True
        request = asked(desk)
        assert isinstance(request, MailRequest)
        assert request.limit == then
        read(0)
