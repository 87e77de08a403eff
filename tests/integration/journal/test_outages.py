"""The server goes away and comes back; processes fork; two schemas share a database."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
import sqlalchemy

from continuum.errors import JournalBusy, JournalError, JournalUnavailable
from continuum.journal.open import migrate_database, open_journal
from continuum.journal.postgres.embedded import EmbeddedPostgres
from continuum.journal.requests import ClaimRequest, CommitRequest, Hint, HintKind, InspectRequest
from continuum.model.events import EventType
from tests.integration.journal.conftest import unlocked
from tests.support.eventually import eventually
from tests.support.journals import Desk, commit_of, event

Sql = Callable[..., list[Any]]


@pytest.fixture
def fragile(own_postgres: EmbeddedPostgres) -> Iterator[Desk]:
    """Yield a desk on a server that the test may break."""
    migrate_database(own_postgres.url)
    with closing(open_journal(own_postgres.url)) as journal:
        yield Desk(journal, wing="postgres", locked=unlocked)


def test_clients_do_not_notice_a_restart_between_two_calls(fragile: Desk, own_postgres: EmbeddedPostgres) -> None:
    run_id = fragile.make_run()
    fragile.journal.hint(Hint(HintKind.START))
    own_postgres.restart()
    assert fragile.journal.runs.find(run_id) is not None
    fragile.make_run()
    ears = fragile.journal.open_ears([HintKind.START])
    fragile.journal.hint(Hint(HintKind.START))
    assert eventually(ears.hear) == [Hint(HintKind.START)]


def test_a_line_dies_with_the_server_and_its_request_is_unknown(fragile: Desk, own_postgres: EmbeddedPostgres) -> None:
    worker = fragile.make_worker()
    run = fragile.parked(worker)
    line = fragile.journal.open_line()
    ears = fragile.journal.open_ears([HintKind.MAIL])
    line.send(InspectRequest((run.run_id,)))
    own_postgres.restart()

    def use() -> None:
        for _ in range(3):  # the first reply may have come before the end
            line.wait(20)
            line.send(InspectRequest((run.run_id,)))

    with pytest.raises(JournalUnavailable):
        use()
    with pytest.raises(JournalUnavailable):
        eventually(ears.hear)
    line.close()
    ears.close()
    with closing(fragile.journal.open_line()) as another:
        another.send(CommitRequest(worker, [commit_of(run, event(EventType.TIMER_FIRED, command=1))]))
        assert another.wait(20).written == {run.run_id}


def test_an_outage_is_told_as_such_and_ends(fragile: Desk, own_postgres: EmbeddedPostgres) -> None:
    run_id = fragile.make_run()
    journal = fragile.journal
    worker = fragile.make_worker()
    with own_postgres.outage():
        for call in (
            journal.check,
            fragile.make_run,
            journal.open_line,
            lambda: journal.open_ears([HintKind.DONE]),
            lambda: journal.runs.find(run_id),
            lambda: journal.runs.history(run_id),
            lambda: journal.runs.terminate(run_id, namespace=None, reason="x"),
            lambda: journal.tasks.held(worker),
            lambda: journal.tasks.transaction(worker).__enter__(),
            journal.workers.reap,
            lambda: journal.upkeep.ensure_partitions(months_ahead=1),
        ):
            with pytest.raises(JournalUnavailable) as raised:
                call()
            assert raised.value.transient
        journal.hint(Hint(HintKind.START))  # lost, and no error
    assert journal.check() is not None
    assert fragile.make_run()


def test_a_session_that_an_operator_ends_is_replaced(desk: Desk, sql: Sql) -> None:
    desk.make_run()
    ours = "from pg_stat_activity where application_name = 'continuum client' and datname = current_database()"
    sql(f"select pg_terminate_backend(pid) {ours}")
    eventually(lambda: not sql(f"select 1 {ours}"))
    desk.make_run()


def test_a_commit_that_an_operator_cancels_is_busy_and_may_be_sent_again(desk: Desk, sql: Sql, connect: Any) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    with closing(desk.journal.open_line()) as line:
        operator = connect()
        operator.cursor().execute("lock table continuum_events in access exclusive mode")
        line.send(CommitRequest(worker, [commit_of(run, event(EventType.RUN_BEGAN))]))
        eventually(lambda: sql("select 1 from pg_locks where not granted"))
        sql("select pg_cancel_backend(pid) from pg_locks where not granted")
        with pytest.raises(JournalBusy):
            eventually(line.receive)
        operator.rollback()
        line.send(CommitRequest(worker, [commit_of(run, event(EventType.RUN_BEGAN))]))
        assert line.wait(20).written == {run.run_id}


# -- forks -------------------------------------------------------------------------------------------------------------

FORK = """
import os, sys, warnings
from continuum.journal.open import open_journal
from continuum.journal.requests import Hint, HintKind, InspectRequest
from continuum.model.ids import new_run_id
from continuum.model.runs import NewRun

def start():
    run = NewRun(id=new_run_id(journal.clock.now_us()), namespace="default", workflow="order", version=1,
                 version_hash="h", started='{"input":[],"seed":"5eed"}')
    assert journal.runs.start(run) == (run.id, True)
    return run.id

journal = open_journal(sys.argv[1])
journal.check()
start()
line, ears = journal.open_line(), journal.open_ears([HintKind.START])
journal.hint(Hint(HintKind.START))
child = os.fork()
if child == 0:
    for _ in range(20):
        start()
        journal.hint(Hint(HintKind.START))
    own = journal.open_line()
    own.send(InspectRequest(()))
    assert own.wait(20) is not None
    journal.close()
    os._exit(7)
for _ in range(20):
    start()
    line.send(InspectRequest(()))
    assert line.wait(20) is not None
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
start()
line.send(InspectRequest(()))
assert line.wait(20) is not None
assert ears.hear() is not None
journal.hint(Hint(HintKind.START))
journal.close()
print("both lived")
"""


def test_a_forked_child_opens_its_own_connections_and_leaves_its_parents_alone(database_url: str, sql: Sql) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, database_url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "both lived\n"
    assert sql("select count(*) from continuum_runs") == [(42,)]


# -- two schemas -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["tenant_b", 'odd "name" %s', "s" * 63])
def test_two_schemas_in_one_database_know_nothing_of_each_other(desk: Desk, database_url: str, schema: str) -> None:
    migrate_database(database_url, schema=schema)
    with closing(open_journal(database_url, schema=schema)) as journal:
        other = Desk(journal, wing="postgres", locked=unlocked)
        ears, other_ears = desk.journal.open_ears([HintKind.START]), journal.open_ears([HintKind.START])
        worker, other_worker = desk.make_worker(), other.make_worker()
        run = desk.new_run(idempotency_key="key")
        assert desk.journal.runs.start(run)[1]
        assert other.claim(other_worker) == []
        assert journal.runs.find(run.id) is None
        assert [one.id for one in journal.workers.list_workers()] == [other_worker]
        # The same run id, the same key: nothing is shared.
        assert journal.runs.start(run) == (run.id, True)
        claimed = other.claim_one(other_worker)
        assert other.write(other_worker, claimed, event(EventType.RUN_BEGAN)).last_seq == 2
        assert desk.claim_one(worker).last_seq == 1
        journal.hint(Hint(HintKind.START))
        assert eventually(other_ears.hear) == [Hint(HintKind.START)]
        assert ears.hear() == []
        assert journal.upkeep.misplaced_events() == 0
        assert journal.workers.reap().runs == 0
        ears.close()
        other.close()


# -- a caller's engine -------------------------------------------------------------------------------------------------


def test_a_callers_engine_is_how_everything_connects(database_url: str) -> None:
    """Its password is known to its `creator` alone, as with tokens that expire."""
    url = sqlalchemy.make_url(database_url)
    made = []

    def creator() -> Any:
        made.append(1)
        return psycopg2.connect(database_url)

    engine = sqlalchemy.create_engine("postgresql+psycopg2://", creator=creator)
    without = url.set(password="wrong").render_as_string(hide_password=False)
    with closing(open_journal(without, engine=engine)) as journal:
        desk = Desk(journal, wing="postgres", locked=unlocked)
        worker = desk.make_worker()
        desk.make_run()
        assert desk.claim_one(worker)
        ears = journal.open_ears([HintKind.START])
        journal.hint(Hint(HintKind.START))
        assert eventually(ears.hear) == [Hint(HintKind.START)]
        assert made
        assert engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    engine.dispose()


def test_a_closed_journal_opens_nothing(database_url: str) -> None:
    journal = open_journal(database_url)
    journal.check()
    journal.close()
    for call in (journal.check, journal.open_line, lambda: journal.open_ears([HintKind.START])):
        with pytest.raises(JournalError):
            call()
    journal.close()


def test_a_line_refuses_what_cannot_be_written_down_without_sending_it(desk: Desk) -> None:
    with closing(desk.journal.open_line()) as line:
        with pytest.raises(JournalError, match="NUL"):
            line.send(ClaimRequest(desk.make_worker(), (("a\0b", 1),), 5))
        assert line.request is None
        line.send(InspectRequest(()))
        assert line.wait(20) is not None


def test_a_host_that_vanishes_under_a_statement_is_found_within_a_minute(fragile: Desk) -> None:
    # Keepalives do not see to it: the kernel probes idle connections only.
    database: Any = fragile.journal._database  # type: ignore[attr-defined]
    with closing(database.connect("test")) as pinned, database.session() as pooled:
        for connection in (pinned, pooled.connection):
            assert connection.info.dsn_parameters["tcp_user_timeout"] == "60000"
