"""Starting a run: once per run id, once per idempotency key, whatever the caller's transaction does."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from continuum.errors import JournalError
from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.runs import RunState
from continuum.model.search import Query
from tests.support.journals import Desk


def test_a_started_run_is_pending_and_due_at_once(desk: Desk) -> None:
    before = desk.now()
    run = desk.run(desk.make_run())
    after = desk.now()
    assert (run.state, run.last_seq, run.grants, run.lease_owner, run.is_tip) == (
        RunState.PENDING,
        1,
        0,
        None,
        True,
    )
    assert before <= run.created_at <= after
    assert run.wake_at is not None
    assert before <= run.wake_at <= after
    assert (run.started_at, run.completed_at, run.retention_until) == (None, None, None)


def test_all_that_a_run_is_started_with_comes_back(desk: Desk) -> None:
    new = desk.new_run(
        namespace="eu",
        workflow="shop.order",
        version=7,
        version_hash="abc",
        attributes='{"customer": 7, "tags": ["a", "b"], "name": "Zoë"}',
        idempotency_key="order-1",
        trace_context="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    run_id, is_new = desk.journal.runs.start(new)
    run = desk.run(run_id)
    assert (run_id, is_new) == (new.id, True)
    assert (run.id, run.chain_id, run.namespace, run.workflow) == (new.id, new.id, "eu", "shop.order")
    assert (run.version, run.version_hash, run.idempotency_key) == (7, "abc", "order-1")
    assert run.trace_context == new.trace_context
    assert run.attributes == {"customer": 7, "tags": ["a", "b"], "name": "Zoë"}
    assert (run.parent_id, run.continued_from) == (None, None)


def test_a_run_without_attributes_has_none(desk: Desk) -> None:
    assert desk.run(desk.make_run()).attributes == {}


def test_the_history_begins_with_what_the_run_was_started_with_to_the_letter(desk: Desk) -> None:
    # Order of keys, blanks, doubled keys and escapes survive: it is text, not a value.
    started = '{"seed": "1",  "input": {"b": 1, "a": [1.0, 1e2], "b": 2}, "z": "\\u00eb ë \\u0000"}'
    run_id = desk.make_run(started=started)
    [first] = desk.journal.runs.history(run_id)
    assert (first.seq, first.type, first.command, first.name) == (1, EventType.RUN_STARTED, None, None)
    assert first.payload == started
    assert abs(first.at - desk.now_us()) < 60_000_000


def test_starting_the_same_run_id_again_changes_nothing_and_says_true(desk: Desk) -> None:
    new = desk.new_run()
    assert desk.journal.runs.start(new) == (new.id, True)
    again = desk.new_run(id=new.id, started='{"input":[2],"seed":"00"}', workflow="other")
    assert desk.journal.runs.start(again) == (new.id, True)
    assert desk.run(new.id).workflow == "order"
    assert [item.payload for item in desk.journal.runs.history(new.id)] == [new.started]


def test_starting_a_run_again_after_it_moved_on_does_not_disturb_it(desk: Desk, worker: WorkerId) -> None:
    new = desk.new_run(idempotency_key="k")
    desk.journal.runs.start(new)
    desk.end(worker, desk.claim_one(worker))
    assert desk.journal.runs.start(new) == (new.id, True)
    assert desk.run(new.id).state == RunState.COMPLETED


def test_a_second_start_under_one_key_finds_the_first_run(desk: Desk) -> None:
    first = desk.new_run(idempotency_key="order-1")
    second = desk.new_run(idempotency_key="order-1", started='{"input":[2],"seed":"00"}')
    assert desk.journal.runs.start(first) == (first.id, True)
    assert desk.journal.runs.start(second) == (first.id, False)
    assert desk.journal.runs.find(second.id) is None
    assert desk.journal.runs.history(second.id) == []


def test_a_key_belongs_to_a_namespace_and_a_workflow(desk: Desk) -> None:
    started = {
        desk.journal.runs.start(desk.new_run(idempotency_key="k", **place))
        for place in ({}, {"namespace": "eu"}, {"workflow": "other"})
    }
    assert len(started) == 3
    assert all(new for _, new in started)


def test_a_key_is_one_key_for_all_versions_of_a_workflow(desk: Desk) -> None:
    first = desk.new_run(idempotency_key="k", version=1)
    desk.journal.runs.start(first)
    assert desk.journal.runs.start(desk.new_run(idempotency_key="k", version=2)) == (first.id, False)


def test_a_key_outlives_the_end_of_its_run(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run(idempotency_key="k")
    desk.end(worker, desk.claim_one(worker))
    assert desk.journal.runs.start(desk.new_run(idempotency_key="k")) == (run_id, False)


def test_of_eight_concurrent_starts_under_one_key_exactly_one_starts(desk: Desk) -> None:
    runs = [desk.new_run(idempotency_key="order-1") for _ in range(8)]
    together = Barrier(8)

    def start(index: int) -> tuple[str, bool]:
        together.wait()
        return desk.journal.runs.start(runs[index])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(start, range(8)))
    [winner] = [run_id for run_id, new in answers if new]
    assert {run_id for run_id, _ in answers} == {winner}
    assert [run.id for run in desk.journal.runs.search(Query()).runs] == [winner]


def test_concurrent_retries_of_one_start_make_one_run(desk: Desk) -> None:
    new = desk.new_run(idempotency_key="order-1")
    together = Barrier(8)

    def start(_: int) -> tuple[str, bool]:
        together.wait()
        return desk.journal.runs.start(new)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(start, range(8))) == {(new.id, True)}
    assert len(desk.journal.runs.history(new.id)) == 1


@pytest.mark.parametrize("field", ["namespace", "workflow", "idempotency_key", "version_hash"])
def test_a_name_with_nul_is_refused_and_nothing_is_written(desk: Desk, field: str) -> None:
    new = desk.new_run(**{"idempotency_key": "k", field: "a\0b"})
    with pytest.raises(JournalError):
        desk.journal.runs.start(new)
    assert desk.journal.runs.find(new.id) is None
    assert desk.journal.runs.search(Query()).runs == []


def test_a_payload_that_is_no_json_is_refused_and_nothing_is_written(desk: Desk) -> None:
    new = desk.new_run(started="{nonsense", idempotency_key="k")
    with pytest.raises(JournalError):
        desk.journal.runs.start(new)
    assert desk.journal.runs.find(new.id) is None
    assert desk.journal.runs.start(desk.new_run(idempotency_key="k"))[1]


def test_a_payload_of_two_megabytes_is_kept(desk: Desk) -> None:
    started = json.dumps({"input": "ä" * 1_000_000, "seed": "1"}, ensure_ascii=False)
    run_id = desk.make_run(started=started)
    assert desk.journal.runs.history(run_id)[0].payload == started


def test_attributes_with_nul_are_refused_and_nothing_is_written(desk: Desk) -> None:
    new = desk.new_run(attributes='{"a": ["x\\u0000"]}', idempotency_key="k")
    with pytest.raises(JournalError):
        desk.journal.runs.start(new)
    assert desk.journal.runs.find(new.id) is None
    assert desk.journal.runs.start(desk.new_run(idempotency_key="k"))[1]
