"""What goes in comes out, through every door, with and without a wrapper."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from continuum.errors import CodecError, HistoryError, JournalError
from continuum.journal.open import open_journal
from continuum.model.codec import BytesWrapper
from continuum.model.events import EventType
from continuum.model.failures import Failure, FailureKind
from continuum.model.runs import RunState
from continuum.model.search import parse_query
from continuum.model.snapshots import decode_snapshot, encode_snapshot
from continuum.model.tasks import TaskOutcome
from tests.integration.journal.conftest import unlocked
from tests.support.journals import Desk, commit_of, event, failed, grant_of, order, succeeded
from tests.unit.journal.postgres.test_literals import HOSTILE

Sql = Callable[..., list[Any]]

BODIES = [
    "null",
    '""',
    "{}",
    "[]",
    '"it\'s"',
    '"\\"quoted\\" \\\\ back"',
    '"\\u0000"',
    '"\\ud800"',
    '{"b": 1, "a": 2, "b": 3}',
    '"{a,b}"',
    '"Zürich 東京 🙂"',
    " [1,\n 2] ",
    '"' + "x" * 100_000 + '"',
    "1" * 400,
]


def test_every_payload_is_kept_to_the_letter(desk: Desk) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    run = desk.write(worker, run, *(event(EventType.VALUE_RECORDED, command=1, payload=body) for body in BODIES))
    assert [item.payload for item in desk.journal.runs.history(run.run_id)[1:]] == BODIES
    [loaded] = desk.regrant(worker, grant_of(run))
    assert [item.payload for item in loaded.events[1:]] == BODIES


def test_every_name_is_kept_to_the_letter(desk: Desk) -> None:
    worker = desk.make_worker()
    run = desk.fresh(worker)
    events = [event(EventType.VALUE_RECORDED, command=1, name=name, location=name) for name in [*HOSTILE, None]]
    run = desk.write(
        worker,
        run,
        *events,
        orders=[order(number, activity=name or "empty", arguments="[]") for number, name in enumerate(HOSTILE, 2)],
    )
    written = desk.journal.runs.history(run.run_id)[1:]
    assert [item.name for item in written] == [*HOSTILE, None]
    assert [item.location for item in written] == [*HOSTILE, None]
    assert [task.activity for task in desk.journal.tasks.of_run(run.run_id)] == [name or "empty" for name in HOSTILE]


@pytest.mark.parametrize("name", [name for name in HOSTILE if len(name) < 100])
def test_names_chosen_by_clients_are_kept_to_the_letter(desk: Desk, name: str) -> None:
    worker = desk.make_worker()
    given = desk.new_run(
        namespace=name,
        workflow=name,
        version_hash=name,
        idempotency_key=name,
        trace_context=name,
        attributes='{"a":"\'"}',
    )
    assert desk.journal.runs.start(given) == (given.id, True)
    assert desk.journal.runs.start(desk.new_run(namespace=name, workflow=name, idempotency_key=name)) == (
        given.id,
        False,
    )
    found = desk.journal.runs.find(given.id, namespace=name)
    assert found is not None
    assert (found.workflow, found.version_hash, found.idempotency_key, found.trace_context) == (name,) * 4
    assert [run.id for run in desk.journal.runs.search(parse_query({"workflow": name}, namespace=name)).runs] == [
        given.id
    ]
    desk.signal(given.id, name, '"\'"', namespace=name, delivery_id=name)
    [claimed] = desk.claim(worker, workflows=((name, 1),))
    assert (claimed.workflow, claimed.namespace, claimed.mail[0].name) == (name, name, name)
    assert desk.stick(worker, claimed, reason=name)
    assert desk.run(given.id).stuck_reason == name


def test_a_megabyte_goes_through_a_line_both_ways(desk: Desk) -> None:
    worker = desk.make_worker()
    body = '"' + "é" * 1_000_000 + '"'
    run = desk.write(worker, desk.fresh(worker), event(EventType.VALUE_RECORDED, command=1, payload=body))
    desk.release(worker, run)
    again = desk.claim_one(worker)
    assert again.events[-1].payload == body


# -- wrapped -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def wrapped(database_url: str) -> Iterator[Desk]:
    wrapper = BytesWrapper("zlib", zlib.compress, zlib.decompress)
    with closing(open_journal(database_url, wrapper=wrapper)) as journal:
        made = Desk(journal, wing="postgres", locked=unlocked)
        yield made
        made.close()


def test_a_snapshot_is_wrapped_as_payloads_are_and_read_by_whoever_has_the_wrapper(wrapped: Desk, sql: Sql) -> None:
    worker = wrapped.make_worker()
    secret = event(EventType.VALUE_RECORDED, command=1, name="v", payload='"the secret"')
    run = wrapped.write(worker, wrapped.fresh(worker), *[secret] * 3)
    history = wrapped.journal.runs.history(run.run_id)
    assert wrapped.journal.snapshots.save(run.run_id, encode_snapshot(history[:3]))
    [(body,)] = sql("select body from continuum_snapshots")
    assert body.startswith('{"$wrapped"')
    assert "secret" not in body
    found = wrapped.journal.snapshots.find(run.run_id)
    assert found is not None
    assert decode_snapshot(found) == history[:3]
    [loaded] = wrapped.regrant(worker, grant_of(run))
    assert (loaded.events, loaded.folded) == (history, 3)


def test_a_snapshot_that_cannot_be_unwrapped_is_passed_over(desk: Desk, database_url: str, sql: Sql) -> None:
    """A wrapper that was switched on for a while: the events say what can be read, not the copy."""
    worker = desk.make_worker()
    run = desk.write(worker, desk.fresh(worker), event(EventType.VALUE_RECORDED, command=1, payload="1"))
    history = desk.journal.runs.history(run.run_id)
    with closing(open_journal(database_url, wrapper=BytesWrapper("zlib", zlib.compress, zlib.decompress))) as other:
        assert other.snapshots.save(run.run_id, encode_snapshot(history))
    [loaded] = desk.regrant(worker, grant_of(run))
    assert (loaded.events, loaded.folded, loaded.unreadable) == (history, 0, None)
    lost = BytesWrapper("other", zlib.compress, zlib.decompress)
    with (
        closing(open_journal(database_url, wrapper=lost)) as other,
        pytest.raises(HistoryError, match="wrapped by 'zlib'"),
    ):
        other.snapshots.find(run.run_id)


def stored(sql: Sql) -> list[str]:
    """Return every payload there is, as it lies in the tables."""
    found = []
    for table, column in (
        ("continuum_events", "payload"),
        ("continuum_inbox", "payload"),
        ("continuum_tasks", "arguments"),
        ("continuum_tasks", "heartbeat"),
        ("continuum_activity_results", "payload"),
    ):
        found += [row[0] for row in sql(f"select {column}::text from {table} where {column} is not null")]
    return found + [row[0] for row in sql("select json_array_elements(errors)::text from continuum_tasks")]


def test_wrapped_payloads_are_plain_to_the_engine_and_nowhere_else(wrapped: Desk, sql: Sql) -> None:
    desk, worker = wrapped, wrapped.make_worker()
    run = desk.fresh(worker)
    assert run.events[0].payload == '{"input":[1],"seed":"5eed"}'
    orders = [order(number, arguments='["secret"]') for number in (1, 2, 3, 4)]
    run = desk.write(worker, run, event(EventType.VALUE_RECORDED, command=9, payload='"secret"'), orders=orders)
    desk.signal(run.run_id, "go", '"secret"')
    first, second, third, fourth = sorted(desk.take(worker), key=lambda task: task.command)
    assert first.arguments == '["secret"]'
    tasks = desk.journal.tasks
    assert tasks.progress(worker, first, details='{"at":"secret"}')
    assert tasks.retry(worker, first, failure=Failure("E", "secret"), delay=timedelta(0))
    assert tasks.finish(worker, succeeded(second, '"secret"'))
    assert tasks.finish(worker, failed(third, Failure("E", "secret")))
    assert tasks.finish_keyed(worker, succeeded(fourth, '"secret"'), key="key") == (True, '"secret"')
    assert tasks.find_result("charge", "key") == '"secret"'
    [seen] = tasks.of_run(run.run_id)
    assert seen.heartbeat == '{"at":"secret"}'
    assert seen.last_error == Failure("E", "secret")
    assert [task.heartbeat for task in desk.take(worker)] == ['{"at":"secret"}']
    payloads = [message.payload for message in desk.mail(worker).messages]
    assert payloads == ['"secret"', '"secret"', Failure("E", "secret").encode(), '"secret"']
    assert [item.payload for item in desk.journal.runs.history(run.run_id, after=1)] == ['"secret"']
    texts = stored(sql)
    assert len(texts) == 10
    assert all(text.startswith('{"$wrapped":["zlib",') for text in texts)


def test_wrapped_outcomes_and_notes_are_read_back(wrapped: Desk, sql: Sql) -> None:
    desk, worker = wrapped, wrapped.make_worker()
    run = desk.parked(worker)
    desk.signal(run.run_id, "late", '"secret"')
    desk.end(worker, run)
    assert desk.journal.runs.outcomes([run.run_id])[run.run_id][1].payload == '"done"'
    assert desk.journal.upkeep.discard_dead_mail() == 1
    note = desk.journal.runs.history(run.run_id)[-1]
    assert note.payload == '{"kind":"signal_received","payload":"secret"}'
    assert all(text.startswith('{"$wrapped"') for text in stored(sql))


def test_what_the_reaper_writes_is_wrapped_as_well(wrapped: Desk, sql: Sql) -> None:
    desk, worker, other = wrapped, wrapped.make_worker(), wrapped.make_worker()
    run = desk.fresh(other)
    run = desk.write(other, run, event(EventType.RUN_BEGAN), orders=[order(1, attempts=1)], state=RunState.SUSPENDED)
    desk.take_one(worker)
    desk.kill(worker)
    assert desk.journal.workers.reap().exhausted == 1
    [message] = desk.mail(other).messages
    assert Failure.parse(message.payload or "").kind == FailureKind.WORKER_DIED
    assert all(text.startswith('{"$wrapped"') for text in stored(sql))


def test_a_transactional_outcome_is_wrapped_as_well(wrapped: Desk, sql: Sql) -> None:
    desk, worker = wrapped, wrapped.make_worker()
    run = desk.fresh(worker)
    desk.write(worker, run, event(EventType.RUN_BEGAN), orders=[order(1)], state=RunState.SUSPENDED)
    task = desk.take_one(worker)
    with desk.journal.tasks.transaction(worker) as transaction:
        assert transaction.finish(TaskOutcome(task.run_id, 1, 1, "charge", '"secret"'))
    assert desk.mail(worker).messages[0].payload == '"secret"'
    assert all(text.startswith('{"$wrapped"') for text in stored(sql))


def test_a_journal_can_begin_to_wrap_what_it_has_stored_plain_so_far(desk: Desk, wrapped: Desk) -> None:
    worker = desk.make_worker()
    run = desk.parked(worker)
    wrapped.signal(run.run_id, "go", '"secret"')
    wrapped.end(worker, run)
    assert wrapped.journal.runs.history(run.run_id)[0].payload == '{"input":[1],"seed":"5eed"}'
    assert wrapped.journal.runs.outcomes([run.run_id])[run.run_id][1].payload == '"done"'


def test_another_wrapper_is_named_in_the_error(database_url: str, wrapped: Desk) -> None:
    run_id = wrapped.make_run()
    other = BytesWrapper("other", bytes, bytes)
    with closing(open_journal(database_url, wrapper=other)) as journal, pytest.raises(CodecError, match="zlib"):
        journal.runs.history(run_id)


def test_a_payload_that_is_no_json_spoils_its_batch_and_nothing_else(desk: Desk) -> None:
    worker = desk.make_worker()
    good, bad = desk.fresh(worker), desk.fresh(worker)
    with pytest.raises(JournalError) as refused:
        desk.commit(
            worker, commit_of(good, event(EventType.RUN_BEGAN)), commit_of(bad, event(EventType.RUN_BEGAN, payload="{"))
        )
    assert refused.value.fields["sqlstate"] == "22P02"
    assert desk.commit(worker, commit_of(good, event(EventType.RUN_BEGAN))) == {good.run_id}
