"""The desk's wishes: hints of mail read it first, and claim what may be free without doing so at each step."""

import time
from datetime import timedelta

import pytest

from continuum.journal.requests import ClaimRequest, LookRequest, MailRequest, Request
from continuum.model.ids import WorkerId
from continuum.runtime.turns.desk import Desk

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
