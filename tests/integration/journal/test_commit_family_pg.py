"""Runs that reach out, on Postgres: whom a commit waits for, and what others see of it at any moment."""

import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from continuum.errors import JournalBusy, JournalError
from continuum.journal.open import open_journal
from continuum.journal.postgres.embedded import EmbeddedPostgres
from continuum.journal.postgres.migrate import upgrade
from continuum.model.codec import BytesWrapper
from continuum.model.decisions import Cascade
from continuum.model.events import EventType
from continuum.model.ids import RunId
from continuum.model.leases import ClaimedRun, WorkflowVersion
from continuum.model.runs import ParentClose, RunState
from tests.integration.journal.conftest import unlocked
from tests.support.audit import fetch
from tests.support.eventually import eventually
from tests.support.families import (
    bear,
    child_of,
    claim_children,
    continuation,
    continued,
    end_child,
    family,
    inbox,
    report_of,
    signal_letter,
    started_events,
    told,
)
from tests.support.journals import Desk, commit_of, event, moved, order, succeeded

Connect = Callable[..., Any]
Sql = Callable[..., list[Any]]
BEGAN = event(EventType.RUN_BEGAN)
NOTED = event(EventType.ATTRIBUTES_SET, command=0)
COMPLETED = event(EventType.RUN_COMPLETED, payload="1")
WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"


@contextmanager
def waiting(sql: Sql, ask: Callable[[], Any]) -> Iterator[list[Any]]:
    """Ask in a thread; enter the block when the answer waits for a lock; leave it with the answer in the list."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        eventually(lambda: sql(WAITING)[0][0] > 0)
        yield answers
    finally:
        thread.join(20)


def lock_attributes(connect: Connect, run_id: RunId) -> Any:
    holder = connect()
    holder.cursor().execute("select 1 from continuum_attributes where run_id = %s for update", (run_id,))
    return holder


# ------------------------------------------------------------------ whom a commit waits for


def test_a_run_whose_attributes_somebody_has_locked_is_left_out_and_the_others_are_written(
    desk: Desk, connect: Connect
) -> None:
    worker = desk.make_worker()
    locked, free = desk.fresh(worker, attributes='{"a": 1}'), desk.fresh(worker, attributes='{"a": 1}')
    commits = [commit_of(run, NOTED, attributes='{"b": 2}') for run in (locked, free)]
    holder = lock_attributes(connect, locked.run_id)
    assert desk.commit(worker, *commits) == {free.run_id}
    assert desk.types(locked.run_id) == ["run_started"]
    holder.rollback()
    assert desk.commit(worker, commits[0]) == {locked.run_id}
    assert desk.run(locked.run_id).attributes == {"a": 1, "b": 2}


def test_a_run_whose_attributes_are_locked_does_not_continue_and_then_continues_with_the_newest(
    desk: Desk, connect: Connect
) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker, attributes='{"a": 1}')
    successor, commit = continuation(desk, run)
    holder = lock_attributes(connect, run.run_id)
    assert desk.commit(worker, commit) == frozenset()
    assert desk.run(run.run_id).is_tip
    holder.cursor().execute("update continuum_attributes set attributes = attributes || '{\"late\": 1}'")
    holder.commit()
    assert desk.commit(worker, commit) == {run.run_id}
    assert desk.run(successor).attributes == {"a": 1, "late": 1}


def test_attributes_that_are_locked_hold_up_no_commit_that_leaves_them_alone(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker, attributes='{"a": 1}')
    holder = lock_attributes(connect, run.run_id)
    child = child_of(desk, run)
    run = bear(desk, worker, run, child)
    assert desk.run(child.id).attributes == {"a": 1}
    holder.rollback()


def test_first_attributes_that_an_outsider_is_inserting_are_waited_for_and_merged(
    desk: Desk, connect: Connect, sql: Sql
) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    outsider = connect()
    outsider.cursor().execute('insert into continuum_attributes values (%s, \'{"a": 1, "b": 1}\')', (run.run_id,))
    commit = commit_of(run, NOTED, attributes='{"b": 2}')
    with waiting(sql, lambda: desk.commit(worker, commit)) as answers:
        outsider.commit()
    assert answers == [{run.run_id}]
    assert desk.run(run.run_id).attributes == {"a": 1, "b": 2}


def test_an_outsider_who_inserts_first_attributes_and_stays_makes_the_commit_busy_not_stuck(
    desk: Desk, connect: Connect
) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    outsider = connect()
    outsider.cursor().execute("insert into continuum_attributes values (%s, '{}')", (run.run_id,))
    commit = commit_of(run, NOTED, attributes='{"b": 2}')
    with pytest.raises(JournalBusy):
        desk.commit(worker, commit)
    outsider.rollback()
    assert desk.commit(worker, commit) == {run.run_id}


def test_parents_children_and_strangers_that_are_locked_hold_up_nobody(desk: Desk, connect: Connect) -> None:
    """Reports, letters and cascades lock no row of another run."""
    worker = desk.make_worker()
    parent, [child, brother] = family(desk, worker, ParentClose.CANCEL, ParentClose.TERMINATE)
    stranger = desk.fresh(worker)
    grandchild = child_of(desk, child)
    child = bear(desk, worker, child, grandchild)
    holder = connect()
    held = [parent.run_id, brother.run_id, stranger.run_id, grandchild.id]
    holder.cursor().execute("select 1 from continuum_runs where id = any(%s::uuid[]) for update", (held,))
    end = commit_of(
        child,
        COMPLETED,
        state=RunState.COMPLETED,
        woke=True,
        report=report_of(child),
        letters=[signal_letter(stranger.chain_id)],
        cascade=Cascade.CLOSE,
    )
    assert desk.commit(worker, end) == {child.run_id}
    holder.rollback()
    assert told(desk, worker, parent) == ["child_completed"]
    assert told(desk, worker, stranger) == ["signal_received"]


# ------------------------------------------------------------------ wholly or not at all


def test_a_child_that_exists_already_is_an_error_and_nothing_is_written(desk: Desk) -> None:
    """It cannot be: ids derive from a run and a command. Were it so, a parent would wait for somebody else's child."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    order_of_it = child_of(desk, run)
    desk.make_run(id=order_of_it.id, workflow="taken")
    with pytest.raises(JournalError, match="23505"):
        desk.commit(worker, commit_of(run, *started_events([order_of_it]), children=[order_of_it]))
    assert desk.types(run.run_id) == ["run_started"]
    assert desk.run(order_of_it.id).workflow == "taken"


def test_what_a_commit_writes_far_and_wide_is_one_transaction(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    parent, [child] = family(desk, worker)
    end = commit_of(
        child,
        event(EventType.CHILD_STARTED, command=0),
        COMPLETED,
        state=RunState.COMPLETED,
        woke=True,
        children=[child_of(desk, child)],
        attributes='{"a": 1}',
        report=report_of(child),
        letters=[signal_letter(parent.chain_id)],
    )
    assert desk.commit(worker, end) == {child.run_id}
    [(of_run,)] = sql("select xmin::text from continuum_runs where id = %s", child.run_id)
    for written in (
        "from continuum_runs where parent_id = %s",
        "from continuum_attributes where run_id = %s",
        "from continuum_events where run_id = %s and seq > 1",
    ):
        assert sql(f"select distinct xmin::text {written}", child.run_id) == [(of_run,)]
    assert sql("select count(*), min(xmin::text), max(xmin::text) from continuum_inbox") == [(2, of_run, of_run)]


def test_a_chain_has_one_tip_at_any_moment(desk: Desk, sql: Sql) -> None:
    """Whoever looks sees one: a reader without any lock counts them while the chain continues and continues."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    done = threading.Event()
    seen: set[int] = set()

    def look() -> None:
        while not done.is_set():
            seen.add(sql("select count(*) from continuum_runs where chain_id = %s and is_tip", run.chain_id)[0][0])

    reader = threading.Thread(target=look)
    reader.start()
    try:
        last = run
        for _ in range(40):
            last = continued(desk, worker, last)
    finally:
        done.set()
        reader.join(20)
    assert seen == {1}
    assert sql("select count(*) from continuum_runs where chain_id = %s", run.chain_id) == [(41,)]


def test_a_poisoned_attribute_is_an_error_of_its_data(desk: Desk) -> None:
    """`jsonb` cannot hold what `json` can; the batch is split as for any other data error."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    with pytest.raises(JournalError) as raised:
        desk.commit(worker, commit_of(run, NOTED, attributes='{"a": "\\u0000"}'))
    assert not isinstance(raised.value, JournalBusy)
    assert desk.commit(worker, commit_of(run, NOTED, attributes='{"a": 1}')) == {run.run_id}


# ------------------------------------------------------------------ termination


def test_a_termination_that_waited_for_a_continuation_ends_the_successor(
    desk: Desk, connect: Connect, sql: Sql
) -> None:
    """The row it found first is no tip any more when it is free."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    successor, _ = continuation(desk, run)
    owner = connect()
    cursor = owner.cursor()
    cursor.execute("update continuum_runs set is_tip = false, state = 'continued' where id = %s", (run.run_id,))
    cursor.execute(
        "insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, state, last_seq)"
        " select %s, chain_id, namespace, workflow, version, version_hash, 'pending', 1 from continuum_runs"
        " where id = %s",
        (successor, run.run_id),
    )
    terminate = desk.journal.runs.terminate
    with waiting(sql, lambda: terminate(run.run_id, namespace="default", reason="enough")) as answers:
        owner.commit()
    assert answers == [successor]
    assert desk.run(successor).state == RunState.TERMINATED
    assert desk.run(run.run_id).state == RunState.CONTINUED


def test_a_termination_sees_the_child_of_the_commit_it_has_waited_for(desk: Desk, connect: Connect, sql: Sql) -> None:
    worker = desk.make_worker()
    run = desk.parked(worker)
    owner = connect()
    cursor = owner.cursor()
    cursor.execute("select 1 from continuum_runs where id = %s for no key update", (run.run_id,))
    with waiting(sql, lambda: desk.journal.runs.terminate(run.run_id, namespace=None, reason="enough")) as answers:
        child = desk.new_run()
        cursor.execute(
            "insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, state, last_seq,"
            " parent_id, parent_chain_id, parent_command, parent_close)"
            " values (%s, %s, 'default', 'child', 1, 'h', 'pending', 1, %s, %s, 1, 'cancel')",
            (child.id, child.id, run.run_id, run.chain_id),
        )
        owner.commit()
    assert answers == [run.run_id]
    assert sql("select kind from continuum_inbox where chain_id = %s", child.id) == [("cancel_requested",)]


def test_a_termination_does_not_wait_for_parents_and_children(desk: Desk, connect: Connect) -> None:
    worker = desk.make_worker()
    parent, [child] = family(desk, worker)
    grandchild = child_of(desk, child)
    bear(desk, worker, child, grandchild)
    holder = connect()
    held = [parent.run_id, grandchild.id]
    holder.cursor().execute("select 1 from continuum_runs where id = any(%s::uuid[]) for update", (held,))
    assert desk.journal.runs.terminate(child.run_id, namespace=None, reason="enough") == child.run_id
    assert told(desk, worker, parent) == ["child_cancelled"]
    holder.rollback()


def test_parents_and_children_may_be_terminated_at_once_while_they_commit(desk: Desk, database_url: str) -> None:
    """Nobody waits in a circle, everybody ends once, and each parent that was left open hears of its child."""
    worker = desk.make_worker()
    families = [family(desk, worker, *[ParentClose.TERMINATE] * 3) for _ in range(15)]
    victims = [run for parent, children in families for run in (parent, *children)]
    failures: list[BaseException] = []

    def end(runs: list[ClaimedRun]) -> None:
        for run in runs:
            try:
                desk.journal.runs.terminate(run.run_id, namespace=None, reason="enough")
            except BaseException as error:
                failures.append(error)

    def write() -> None:
        with closing(open_journal(database_url)) as journal:
            own = Desk(journal, wing="postgres", locked=unlocked)
            for _ in range(10):
                own.commit(worker, *[commit_of(run, BEGAN, letters=[signal_letter(run.chain_id)]) for run in victims])
            own.close()

    threads = [
        threading.Thread(target=end, args=(victims[0::2],)),
        threading.Thread(target=end, args=(victims[::-1][0::2],)),
        threading.Thread(target=end, args=(victims[1::2],)),
        threading.Thread(target=write),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert {type(failure).__name__ for failure in failures} <= {"RunTerminal"}
    assert {desk.run(run.run_id).state for run in victims} == {RunState.TERMINATED}
    for run in victims:
        assert desk.types(run.run_id).count("run_terminated") == 1


# ------------------------------------------------------------------ what is left behind


def test_mail_that_came_too_late_for_a_chain_is_noted_where_it_ended(desk: Desk, sql: Sql) -> None:
    """Reports to an earlier run, orders to end and cancel requests alike; the note is in the history of the tip."""
    worker = desk.make_worker()
    first = desk.parked(worker)
    last = desk.end(worker, continued(desk, worker, first))
    for run_id, kind, command, payload in (
        (first.run_id, "child_completed", 3, "1"),
        (None, "run_terminated", None, '{"type_name": "Terminated", "message": "no"}'),
        (None, "cancel_requested", None, None),
    ):
        sql(
            "insert into continuum_inbox (chain_id, run_id, kind, command, payload) values (%s, %s, %s, %s, %s)",
            first.chain_id,
            run_id,
            kind,
            command,
            payload,
        )
    assert desk.journal.upkeep.discard_dead_mail() == 3
    notes = [item for item in desk.journal.runs.history(last.run_id) if item.type == EventType.MESSAGE_UNDELIVERABLE]
    assert [(item.command, item.payload) for item in notes] == [
        (3, '{"kind":"child_completed","payload":1}'),
        (None, '{"kind":"run_terminated","payload":{"type_name": "Terminated", "message": "no"}}'),
        (None, '{"kind":"cancel_requested","payload":null}'),
    ]
    assert desk.types(first.run_id)[-1] == "run_continued"
    assert desk.run(last.run_id).last_seq == last.last_seq + 3


def test_mail_for_an_earlier_run_of_a_living_chain_is_left_to_its_tip(desk: Desk, sql: Sql) -> None:
    worker = desk.make_worker()
    first = desk.parked(worker)
    last = continued(desk, worker, first)
    sql(
        "insert into continuum_inbox (chain_id, run_id, kind, command) values (%s, %s, 'child_completed', 1)",
        first.chain_id,
        first.run_id,
    )
    assert desk.journal.upkeep.discard_dead_mail() == 0
    [letter] = inbox(desk, worker, last)
    desk.write(worker, last, BEGAN, consumed=(letter.id,))
    assert inbox(desk, worker, last) == []


def test_a_task_that_outlives_a_run_that_has_continued_reports_to_that_run_only(desk: Desk) -> None:
    """It cannot: a decision that ends a run names its tasks. Were one left, its letter would find no waiting run."""
    worker, other = desk.make_worker(), desk.make_worker()
    first = desk.parked(worker, orders=[order(1, attempts=1), order(2)])
    tasks = {task.command: task for task in desk.take(other)}
    last = continued(desk, worker, first)
    assert desk.journal.tasks.finish(other, succeeded(tasks[2]))
    desk.bury(other)
    assert [(letter.run_id, letter.kind) for letter in inbox(desk, worker, last)] == [
        (first.run_id, EventType.ACTIVITY_COMPLETED),
        (first.run_id, EventType.ACTIVITY_FAILED),
    ]


def test_a_letter_to_a_chain_that_is_not_there_is_dropped(desk: Desk, sql: Sql) -> None:
    """Mail of no chain would lie there for ever: upkeep looks for chains that have ended."""
    worker = desk.make_worker()
    run = desk.fresh(worker)
    desk.write(worker, run, BEGAN, letters=[signal_letter(desk.new_run().id)])
    assert sql("select 1 from continuum_inbox") == []


def test_all_that_travels_between_runs_is_wrapped(database_url: str, sql: Sql) -> None:
    secret = '"4111 1111"'

    wrapper = BytesWrapper("zlib", zlib.compress, zlib.decompress)
    with closing(open_journal(database_url, wrapper=wrapper)) as journal:
        desk = Desk(journal, wing="postgres", locked=unlocked)
        worker = desk.make_worker()
        started = f'{{"input":[{secret}],"seed":"5eed"}}'
        run = desk.parked(worker)
        child = child_of(desk, run, started=started, close=ParentClose.TERMINATE)
        run = bear(desk, worker, run, child, letters=[signal_letter(child.id, payload=secret)])
        [held] = claim_children(desk, worker)
        assert held.events[0].payload == started
        assert [message.payload for message in held.mail] == [secret]
        end_child(desk, worker, held, report=report_of(held, payload=secret))
        assert [message.payload for message in inbox(desk, worker, run)] == [secret]
        again = continued(desk, worker, run, started=started)
        assert again.events[0].payload == started
        other = child_of(desk, again, 7, close=ParentClose.TERMINATE)
        bear(desk, worker, again, other)
        journal.runs.terminate(again.run_id, namespace=None, reason="4111 1111")
        [ended] = claim_children(desk, worker)
        assert "its parent" in str(ended.mail[-1].payload)
        desk.close()
    for table in ("continuum_events", "continuum_inbox"):
        stored = [row[0] for row in sql(f"select payload::text from {table} where payload is not null")]
        assert stored
        assert all(payload.startswith('{"$wrapped"') for payload in stored)


# ------------------------------------------------------------------ contracts


def test_a_version_that_was_recorded_without_a_contract_gets_it_once(desk: Desk) -> None:
    """The release before this one recorded none."""
    run_id = desk.make_run()
    plain = WorkflowVersion("order", 1, "hash-1", "source")
    for signals, known in ((None, None), ('[{"name":"go"}]', '[{"name":"go"}]'), ("[]", '[{"name":"go"}]')):
        declared = WorkflowVersion("order", 1, "hash-1", "other source", signals=signals)
        desk.journal.workers.record_versions([plain, declared] if signals is None else [declared])
        assert desk.journal.runs.contract(run_id) == known
    assert desk.journal.workers.source_of("order", "hash-1") == "source"


def test_dispatchers_that_record_their_versions_at_once_do_not_deadlock(desk: Desk) -> None:
    versions = [WorkflowVersion(f"flow{number}", 1, "hash", "source", signals="[]") for number in range(200)]
    failures: list[BaseException] = []

    def record(some: list[WorkflowVersion]) -> None:
        try:
            for _ in range(10):
                desk.journal.workers.record_versions(some)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=record, args=(some,)) for some in (versions, versions[::-1]) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


# ------------------------------------------------------------------ what it costs


def test_letters_leave_the_run_row_in_place(own_postgres: EmbeddedPostgres) -> None:
    """The longest text writes the columns of an end too, with their old values: HOT all the same.

    On a server of its own: a long transaction in any database of one keeps it from pruning what is updated.
    """
    upgrade(own_postgres.url)
    query = "select n_tup_hot_upd, n_tup_upd from pg_stat_user_tables where relname = 'continuum_runs'"
    with closing(open_journal(own_postgres.url)) as journal:
        desk = Desk(journal, wing="postgres", locked=unlocked)
        worker = desk.make_worker()
        runs = [desk.began(worker, desk.fresh(worker)) for _ in range(20)]
        [before] = fetch(own_postgres.url, query)
        for command in range(20):
            signal = event(EventType.SIGNAL_SENT, command=command)
            commits = [
                commit_of(run, signal, letters=[signal_letter(run.chain_id)], state=RunState.SUSPENDED) for run in runs
            ]
            assert len(desk.commit(worker, *commits)) == len(runs)
            runs = [moved(run, commit) for run, commit in zip(runs, commits, strict=True)]
        desk.close()

        def counted() -> bool:
            hot, updated = (now - then for now, then in zip(fetch(own_postgres.url, query)[0], before, strict=True))
            assert updated >= 20 * 20
            return bool(hot >= 0.85 * updated)

        eventually(counted)
