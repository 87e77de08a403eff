"""A caller's own transaction: the run starts, and the signal arrives, exactly if that transaction commits."""

from collections.abc import Iterator
from contextlib import closing
from threading import Thread
from typing import Any

import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from continuum.errors import ConfigError, RunNotFound, RunTerminal
from continuum.journal.memory import MemoryJournal
from continuum.journal.open import open_journal
from continuum.journal.protocol import PostResult
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.messages import NewMessage
from tests.support.journals import Desk, commit_of, event

KINDS = ["psycopg2", "psycopg 3", "SQLAlchemy connection", "SQLAlchemy session"]


class Caller:
    """A user's transaction, through one of the doors that are accepted."""

    def __init__(self, kind: str, url: str) -> None:
        self._engine: Any = None
        match kind:
            case "psycopg2":
                self.connection: Any = psycopg2.connect(url)
            case "psycopg 3":
                self.connection = psycopg.connect(url)
            case "SQLAlchemy connection":
                self._engine = sqlalchemy.create_engine(url)
                self.connection = self._engine.connect()
            case _:
                self._engine = sqlalchemy.create_engine(url)
                self.connection = Session(self._engine)

    def execute(self, statement: str) -> list[Any]:
        if self._engine is not None:
            return list(self.connection.execute(sqlalchemy.text(statement)))
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    def close(self) -> None:
        self.connection.close()
        if self._engine is not None:
            self._engine.dispose()


@pytest.fixture
def desk(database_url: str) -> Iterator[Desk]:
    """Yield a desk on Postgres, the only wing with transactions."""
    with closing(open_journal(database_url)) as journal:
        made = Desk(journal, wing="postgres", locked=lambda _: None)  # type: ignore[arg-type,return-value]
        yield made
        made.close()


@pytest.fixture
def worker(desk: Desk) -> WorkerId:
    return desk.make_worker()


@pytest.fixture(params=KINDS)
def caller(request: pytest.FixtureRequest, desk: Desk, database_url: str) -> Iterator[Caller]:
    made = Caller(request.param, database_url)
    yield made
    made.close()


def signal(run: str, **fields: Any) -> NewMessage:
    return NewMessage(run, EventType.SIGNAL_RECEIVED, "paid", "1", **fields)  # type: ignore[arg-type]


def test_a_run_started_in_a_transaction_exists_when_it_commits(desk: Desk, caller: Caller) -> None:
    new = desk.new_run(attributes='{"a": 1}', idempotency_key="k")
    assert desk.journal.runs.start(new, connection=caller.connection) == (new.id, True)
    assert desk.journal.runs.find(new.id) is None
    caller.connection.commit()
    assert desk.run(new.id).attributes == {"a": 1}
    assert desk.types(new.id) == ["run_started"]


def test_a_run_started_in_a_transaction_that_is_undone_never_was(desk: Desk, caller: Caller) -> None:
    new = desk.new_run(idempotency_key="k")
    desk.journal.runs.start(new, connection=caller.connection)
    caller.connection.rollback()
    assert desk.journal.runs.find(new.id) is None
    assert desk.journal.runs.history(new.id) == []
    assert desk.journal.runs.start(desk.new_run(idempotency_key="k"))[1]


def test_a_signal_in_a_transaction_arrives_when_it_commits(desk: Desk, worker: WorkerId, caller: Caller) -> None:
    run = desk.parked(worker)
    sent = desk.journal.runs.post(signal(run.run_id, delivery_id="d"), connection=caller.connection)
    assert sent is PostResult.DELIVERED
    assert desk.mail(worker).messages == []
    caller.connection.commit()
    assert len(desk.mail(worker).messages) == 1


def test_a_signal_in_a_transaction_that_is_undone_was_never_sent(desk: Desk, worker: WorkerId, caller: Caller) -> None:
    run = desk.parked(worker)
    desk.journal.runs.post(signal(run.run_id, delivery_id="d"), connection=caller.connection)
    caller.connection.rollback()
    assert desk.mail(worker).messages == []
    assert desk.journal.runs.post(signal(run.run_id, delivery_id="d")) is PostResult.DELIVERED


def test_a_transaction_sees_the_run_it_has_started(desk: Desk, caller: Caller) -> None:
    new = desk.new_run()
    desk.journal.runs.start(new, connection=caller.connection)
    assert desk.journal.runs.post(signal(new.id), connection=caller.connection) is PostResult.DELIVERED
    caller.connection.commit()
    assert len(desk.claim_one(desk.make_worker()).mail) == 1


def test_a_taken_key_and_a_duplicate_do_not_spoil_the_transaction(desk: Desk, worker: WorkerId, caller: Caller) -> None:
    first = desk.make_run(idempotency_key="k")
    desk.signal(first, "paid", delivery_id="d")
    start = desk.journal.runs.start(desk.new_run(idempotency_key="k"), connection=caller.connection)
    assert start == (first, False)
    duplicate = desk.journal.runs.post(signal(first, delivery_id="d"), connection=caller.connection)
    assert duplicate is PostResult.DUPLICATE
    assert caller.execute("select 1") == [(1,)]
    caller.connection.commit()


def test_a_refusal_does_not_spoil_the_transaction(desk: Desk, worker: WorkerId, caller: Caller) -> None:
    ended = desk.end(worker, desk.fresh(worker)).run_id
    with pytest.raises(RunTerminal):
        desk.journal.runs.post(signal(ended), connection=caller.connection)
    with pytest.raises(RunNotFound):
        desk.journal.runs.post(signal(new_run_id(desk.now_us())), connection=caller.connection)
    assert caller.execute("select 1") == [(1,)]
    caller.connection.commit()


def test_an_open_transaction_with_a_signal_does_not_hold_up_the_owner(
    desk: Desk, worker: WorkerId, caller: Caller
) -> None:
    run = desk.parked(worker)
    desk.journal.runs.post(signal(run.run_id), connection=caller.connection)
    run = desk.write(worker, run, event(EventType.TIMER_FIRED, command=0))
    assert desk.release(worker, run)
    caller.connection.commit()
    assert len(desk.claim_one(worker).mail) == 1


def test_a_signal_that_commits_after_a_later_one_is_not_lost(desk: Desk, worker: WorkerId, caller: Caller) -> None:
    # Ids become visible out of order: an owner that read only "above the last id" would never see it.
    run = desk.parked(worker)
    desk.journal.runs.post(signal(run.run_id), connection=caller.connection)
    desk.signal(run.run_id, "later")
    [later] = desk.mail(worker).messages
    run = desk.write(worker, run, event(EventType.SIGNAL_RECEIVED, name="later"), consumed=[later.id])
    caller.connection.commit()
    [earlier] = desk.mail(worker).messages
    assert earlier.id < later.id


def test_a_run_that_ends_while_a_signal_is_uncommitted_leaves_dead_mail(
    desk: Desk, worker: WorkerId, caller: Caller
) -> None:
    run = desk.parked(worker)
    desk.journal.runs.post(signal(run.run_id), connection=caller.connection)
    done = commit_of(run, event(EventType.RUN_COMPLETED), state=desk.run(run.run_id).state.COMPLETED)
    assert desk.commit(worker, done) == {run.run_id}
    caller.connection.commit()
    assert desk.journal.upkeep.discard_dead_mail() == 1


def test_two_transactions_that_start_under_one_key_agree(desk: Desk, database_url: str) -> None:
    first, second = desk.new_run(idempotency_key="k"), desk.new_run(idempotency_key="k")
    answers: list[tuple[str, bool]] = []
    with closing(psycopg2.connect(database_url)) as one, closing(psycopg2.connect(database_url)) as two:
        desk.journal.runs.start(first, connection=one)

        def start_second() -> None:
            answers.append(desk.journal.runs.start(second, connection=two))
            two.commit()

        other = Thread(target=start_second)
        other.start()
        one.commit()
        other.join(20)
    assert answers == [(first.id, False)]
    assert desk.journal.runs.find(second.id) is None


def test_the_memory_wing_has_no_transaction_to_join() -> None:
    with closing(MemoryJournal()) as journal:
        made = Desk(journal, wing="memory", locked=journal.locked)
        with pytest.raises(ConfigError, match="connection="):
            journal.runs.start(made.new_run(), connection=object())
        run_id = made.make_run()
        with pytest.raises(ConfigError, match="connection="):
            journal.runs.post(signal(run_id), connection=object())
        made.close()
