"""Joining the caller's transaction: a run starts, and a signal arrives, exactly if it commits."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
import psycopg2
import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from continuum import ConfigError, Continuum, JournalUnavailable, RunNotFound
from continuum.journal.requests import HintKind
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20
Open = Callable[[], Any]


@pytest.fixture(params=["psycopg2", "psycopg"])
def engine(request: pytest.FixtureRequest, database_url: str) -> Iterator[Engine]:
    made = create_engine(database_url.replace("postgresql://", f"postgresql+{request.param}://"), poolclass=NullPool)
    yield made
    made.dispose()


@pytest.fixture(params=["session", "session.connection", "connection", "psycopg2", "psycopg"])
def caller(request: pytest.FixtureRequest, database_url: str, engine: Engine) -> Any:
    """Return a context manager that yields (what to pass, commit, rollback)."""

    @contextmanager
    def opened() -> Iterator[tuple[Any, Callable[[], None], Callable[[], None]]]:
        match request.param:
            case "session":
                with Session(engine) as session:
                    yield session, session.commit, session.rollback
            case "session.connection":
                with Session(engine) as session:
                    yield session.connection(), session.commit, session.rollback
            case "connection":
                with engine.connect() as connection:
                    yield connection, connection.commit, connection.rollback
            case "psycopg2":
                raw = psycopg2.connect(database_url)
                yield raw, raw.commit, raw.rollback
                raw.close()
            case _:
                modern = psycopg.connect(database_url)
                yield modern, modern.commit, modern.rollback
                modern.close()

    return opened


def test_a_run_starts_with_the_commit(postgres: Continuum, caller: Any) -> None:
    with caller() as (connection, commit, _):
        handle = postgres.start(flows.total, 1, 2, connection=connection)
        assert postgres.find(handle.id) is None
        commit()
        assert handle.refresh().id == handle.id
    with postgres.running():
        assert handle.result(timeout=WAIT) == 3


def test_a_rollback_leaves_no_run(postgres: Continuum, caller: Any) -> None:
    with caller() as (connection, _, rollback):
        handle, how = postgres.start_unique(flows.total, 1, idempotency_key="k", connection=connection)
        assert how == "started"
        rollback()
        assert postgres.find(handle.id) is None
        with pytest.raises(RunNotFound, match="rolled back"):
            handle.result(timeout=WAIT)
    assert postgres.start_unique(flows.total, 1, idempotency_key="k")[1] == "started"


def test_asking_for_the_result_inside_the_transaction_is_an_error_at_once(postgres: Continuum, caller: Any) -> None:
    with caller() as (connection, commit, _):
        handle = postgres.start(flows.total, 1, connection=connection)
        with pytest.raises(RunNotFound, match="Commit first"):
            handle.result()
        commit()
        with postgres.running():
            assert handle.result(timeout=WAIT) == 2


def test_what_needs_the_commit_says_so(postgres: Continuum, caller: Any) -> None:
    with caller() as (connection, commit, _):
        handle = postgres.start(flows.first_signal, "s", connection=connection)
        for call in (
            lambda: handle.signal("s", "early"),
            lambda: handle.ask("s", timeout=WAIT),
            handle.cancel,
            handle.terminate,
            handle.refresh,
            handle.progress,
        ):
            with pytest.raises(RunNotFound, match="started with connection=.*Commit first"):
                call()
        with pytest.raises(RunNotFound) as stranger:
            postgres.signal(handle.id, "s", "early")  # knows nothing of how it was started
        assert "connection=" not in str(stranger.value)
        assert handle.signal("s", "joined", connection=connection) == "delivered"
        commit()
        with postgres.running():
            assert handle.result(timeout=WAIT) == "joined"


def test_a_signal_arrives_with_the_commit(postgres: Continuum, caller: Any) -> None:
    handle = postgres.start(flows.first_signal, "s")
    with caller() as (connection, _, rollback):
        assert handle.signal("s", "undone", connection=connection) == "delivered"
        rollback()
    with caller() as (connection, commit, _):
        assert handle.signal("s", "meant", delivery_id="d", connection=connection) == "delivered"
        assert handle.signal("s", "again", delivery_id="d", connection=connection) == "duplicate"
        commit()
    with postgres.running():
        assert handle.result(timeout=WAIT) == "meant"


def test_start_and_signal_fit_into_one_transaction(postgres: Continuum, caller: Any) -> None:
    with caller() as (connection, commit, _):
        handle = postgres.start(flows.first_signal, "s", connection=connection)
        handle.signal("s", 7, connection=connection)
        commit()
    with postgres.running():
        assert handle.result(timeout=WAIT) == 7


def test_a_cancel_can_be_part_of_a_transaction_too(postgres: Continuum, caller: Any) -> None:
    handle = postgres.start(flows.forever)
    with caller() as (connection, _, rollback):
        handle.cancel(connection=connection)
        rollback()
    with postgres.running():
        assert not handle.refresh().ended


def test_after_an_error_the_caller_s_transaction_is_usable(postgres: Continuum, caller: Any) -> None:
    """Nothing of ours aborts it: a taken key and an unknown run are answers, not errors of the database."""
    first = postgres.start(flows.total, 1, idempotency_key="k")
    with caller() as (connection, commit, _):
        assert postgres.start(flows.total, 2, idempotency_key="k", connection=connection) == first
        with pytest.raises(RunNotFound):
            postgres.signal("0190a6f0-0000-7000-8000-000000000001", "s", connection=connection)
        handle = postgres.start(flows.total, 3, connection=connection)
        commit()
    assert handle.refresh().id == handle.id


# ------------------------------------------------------------------ hints


@contextmanager
def ears(continuum: Continuum) -> Iterator[Callable[[], list[HintKind]]]:
    opened = continuum.journal.open_ears((HintKind.START, HintKind.MAIL))
    heard: list[HintKind] = []

    def listen() -> list[HintKind]:
        heard.extend(hint.kind for hint in opened.hear())
        return heard

    yield listen
    opened.close()


@pytest.mark.parametrize("what", ["session", "session.connection", "connection"])
def test_a_hint_follows_the_commit_of_sqlalchemy(postgres: Continuum, engine: Engine, what: str) -> None:
    with ears(postgres) as heard, Session(engine) as session:
        joined = session if what == "session" else session.connection()
        if what == "connection":
            session.execute(text("select 1"))
        runs = [postgres.start(flows.total, number, connection=joined) for number in range(5)]
        runs[0].signal("s", connection=joined)
        assert heard() == []
        session.commit()
        eventually(lambda: set(heard()) == {HintKind.START, HintKind.MAIL})
        assert len(heard()) <= 2
        # The next transaction on the same connection says nothing of the last one's.
        session.execute(text("select 1"))
        session.commit()
        postgres.start(flows.total, 9, connection=session)
        session.rollback()
        session.execute(text("select 1"))
        session.commit()
        postgres.journal.hint(postgres_mark())
        eventually(lambda: len(heard()) >= 3)
        assert len(heard()) == 3


def postgres_mark() -> Any:
    from continuum.journal.requests import Hint

    return Hint(HintKind.MAIL)


def test_with_the_hint_a_joined_run_does_not_wait_for_the_floor_poll(database_url: str, engine: Engine) -> None:
    with Continuum(database_url, poll_interval=timedelta(minutes=5)) as instance, instance.running():
        with Session(engine) as session:
            handle = instance.start(flows.total, 1, connection=session)
            session.commit()
        assert handle.result(timeout=WAIT) == 2


def test_django_tells_of_its_commits_by_itself(postgres: Continuum) -> None:
    class Connection:
        """As much of Django's connection as matters to the hint."""

        def __init__(self) -> None:
            self.callbacks: list[Callable[[], None]] = []

        def on_commit(self, callback: Callable[[], None]) -> None:
            self.callbacks.append(callback)

    from continuum.client.joined import send_after_commit

    connection, sent = Connection(), []
    assert send_after_commit(connection, "start", lambda: sent.append(1))
    assert sent == []
    connection.callbacks[0]()
    assert sent == [1]


# ------------------------------------------------------------------ what cannot be joined


def test_what_cannot_be_joined_is_refused_with_advice(postgres: Continuum, engine: Engine) -> None:
    for wrong in (engine, object(), "postgresql://"):
        with pytest.raises(ConfigError, match="connection="):
            postgres.start(flows.total, 1, connection=wrong)
    assert postgres.search().runs == []


def test_a_joined_start_is_never_sent_twice(postgres: Continuum, database_url: str) -> None:
    connection = psycopg2.connect(database_url)
    postgres.journal.check()
    with psycopg2.connect(database_url) as killer, killer.cursor() as cursor:
        cursor.execute("select pg_terminate_backend(%s)", (connection.info.backend_pid,))
    killer.close()
    with pytest.raises(JournalUnavailable):
        postgres.start(flows.total, 1, connection=connection)
    connection.close()
    assert postgres.search().runs == []


def test_the_memory_journal_has_no_transactions_to_join() -> None:
    with Continuum("memory://") as instance, pytest.raises(ConfigError):
        instance.start(flows.total, 1, connection=object())
