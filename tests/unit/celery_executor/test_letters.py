"""What a message says about time, and what a route changes in it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from continuum.celery_executor.letters import Composer, Letter, chunks_of
from continuum.celery_executor.routes import Route
from continuum.model.ids import RunId
from continuum.model.policies import ActivityPolicy
from continuum.model.tasks import DispatchedTask, TaskRef

RUN = RunId("0198c0de-0000-7000-8000-000000000001")
DEADLINE = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def app() -> Iterator[Celery]:
    app = Celery("letters", broker="memory://", set_as_current=False)
    yield app
    app.close()


def compose(app: Celery, *, dispatch_no: int = 1, deadline: timedelta = MINUTE, **route: Any) -> Letter:
    task = DispatchedTask(
        TaskRef(RUN, 3, 2),
        "shop.ship",
        ActivityPolicy(timeout=MINUTE),
        dispatch_no=dispatch_no,
        deadline_us=int(DEADLINE.timestamp() * 1e6),
    )
    return Composer(app, deadline=deadline).compose(task, Route(queue="q", routing_key="q", **route), instance="shop")


@pytest.mark.parametrize(
    ("dispatch_no", "deadline", "minutes"),
    [(1, MINUTE, 1), (2, MINUTE, 2), (4, MINUTE, 8), (5, MINUTE, 10), (900, MINUTE, 10), (1, timedelta(hours=1), 60)],
)
def test_a_message_outlives_ten_of_its_deadlines(
    app: Celery, dispatch_no: int, deadline: timedelta, minutes: int
) -> None:
    letter = compose(app, dispatch_no=dispatch_no, deadline=deadline)
    dispatched = DEADLINE - timedelta(minutes=minutes)
    assert datetime.fromisoformat(letter.headers["expires"]) == dispatched + timedelta(minutes=10 * minutes)
    assert letter.properties["expiration"] == 600 * minutes


def test_the_dispatch_number_is_in_the_id_and_nowhere_else(app: Celery) -> None:
    first, second = compose(app), compose(app, dispatch_no=2)
    assert (first.headers["id"], second.headers["id"]) == (f"{RUN}.3.2.1", f"{RUN}.3.2.2")
    assert first.body == second.body


def test_a_hard_limit_follows_the_soft_one_within_the_journals_grace(app: Celery) -> None:
    assert compose(app).headers["timelimit"] == [65, 60]


def test_messages_are_not_kept_on_the_brokers_disk_unless_a_route_says_so(app: Celery) -> None:
    # Postgres has the task: a confirmation need not wait for the broker's disk.
    assert compose(app).properties["delivery_mode"] == 1
    assert compose(app, delivery_mode="persistent").properties["delivery_mode"] == 2


def test_a_route_may_set_priority_compression_and_headers(app: Celery) -> None:
    letter = compose(app, priority=7, compression="gzip", headers={"tenant": "north"})
    assert letter.properties["priority"] == 7
    assert letter.properties["compression"] == "gzip"
    assert letter.headers["tenant"] == "north"
    assert compose(app).properties["priority"] == 0


def test_an_app_that_speaks_protocol_1_sends_protocol_2_here(app: Celery) -> None:
    app.conf.task_protocol = 1
    assert compose(app).headers["task"] == "continuum.activity"


def test_events_are_composed_only_if_the_app_wants_them(app: Celery) -> None:
    assert compose(app).event is None
    app.conf.task_send_sent_event = True
    event = compose(app).event
    assert event is not None
    assert (event["name"], event["queue"], event["root_id"]) == ("shop.ship", "q", RUN)
    assert RUN in event["args"]


def test_chunks_keep_the_order(app: Celery) -> None:
    letters = [compose(app, dispatch_no=number) for number in range(1, 6)]
    assert [len(chunk) for chunk in chunks_of(letters, 2)] == [2, 2, 1]
    assert [letter for chunk in chunks_of(letters, 2) for letter in chunk] == letters
