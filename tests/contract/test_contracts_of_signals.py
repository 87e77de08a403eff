"""The contract of a workflow's signals: kept with its version, found by any run of a chain."""

from typing import Any

import pytest

from continuum.errors import JournalError, RunNotFound
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_run_id
from continuum.model.leases import WorkflowVersion
from tests.support.families import continued, family
from tests.support.journals import Desk, event

CONTRACT = '{"paid":  {"type": "Order", "schema": {}}, "ship": null}'


def record(desk: Desk, version_hash: str = "hash-1", **fields: Any) -> None:
    defaults: dict[str, Any] = {"name": "order", "version": 1, "source": "…", "signals": CONTRACT}
    desk.journal.workers.record_versions([WorkflowVersion(hash=version_hash, **{**defaults, **fields})])


def test_a_run_has_the_contract_of_its_version_to_the_letter(desk: Desk) -> None:
    record(desk)
    record(desk, "hash-2", version=2, signals='{"other": null}')
    assert desk.journal.runs.contract(desk.make_run()) == CONTRACT
    assert desk.journal.runs.contract(desk.make_run(version=2, version_hash="hash-2")) == '{"other": null}'


def test_a_version_without_a_contract_has_none(desk: Desk) -> None:
    record(desk, signals=None)
    assert desk.journal.runs.contract(desk.make_run()) is None


def test_a_version_that_no_dispatcher_has_loaded_has_none(desk: Desk) -> None:
    record(desk, "another hash")
    record(desk, name="another workflow")
    assert desk.journal.runs.contract(desk.make_run()) is None


def test_a_known_version_keeps_its_contract(desk: Desk) -> None:
    record(desk)
    record(desk, signals='{"other": null}')
    assert desk.journal.runs.contract(desk.make_run()) == CONTRACT


def test_versions_with_and_without_contracts_are_recorded_together(desk: Desk) -> None:
    desk.journal.workers.record_versions(
        [
            WorkflowVersion("order", 1, "hash-1", "…"),
            WorkflowVersion("order", 2, "hash-2", "…", signals=CONTRACT),
            WorkflowVersion("order", 3, "hash-3", "…", retention_us=5),
        ]
    )
    runs = [desk.make_run(version=number, version_hash=f"hash-{number}") for number in (1, 2, 3)]
    assert [desk.journal.runs.contract(run) for run in runs] == [None, CONTRACT, None]


def test_the_contract_of_a_chain_is_that_of_its_last_run(desk: Desk, worker: WorkerId) -> None:
    record(desk)
    record(desk, "hash-2", version=2, signals='{"other": null}')
    run = desk.parked(worker)
    successor = continued(desk, worker, run, successor_version=(1, "hash-2"))
    for one in (run, successor):
        assert desk.journal.runs.contract(one.run_id) == '{"other": null}'


def test_the_contract_is_that_of_the_version_a_run_has_adopted(desk: Desk, worker: WorkerId) -> None:
    record(desk)
    record(desk, "hash-2", signals='{"other": null}')
    run = desk.parked(worker)
    desk.write(worker, run, event(EventType.VERSION_ADOPTED, name="hash-2"), adopted_hash="hash-2")
    assert desk.journal.runs.contract(run.run_id) == '{"other": null}'


def test_a_child_has_the_contract_of_its_own_workflow(desk: Desk, worker: WorkerId) -> None:
    record(desk)
    record(desk, "child-1", name="child", signals='{"other": null}')
    run, [child] = family(desk, worker)
    assert [desk.journal.runs.contract(one.run_id) for one in (run, child)] == [CONTRACT, '{"other": null}']


def test_the_contract_of_an_ended_run_can_still_be_read(desk: Desk, worker: WorkerId) -> None:
    record(desk)
    run = desk.end(worker, desk.fresh(worker))
    assert desk.journal.runs.contract(run.run_id) == CONTRACT


def test_a_run_that_is_not_there_or_elsewhere_has_no_contract_to_ask_for(desk: Desk) -> None:
    record(desk)
    run_id = desk.make_run(namespace="eu")
    assert desk.journal.runs.contract(run_id, namespace="eu") == CONTRACT
    with pytest.raises(RunNotFound):
        desk.journal.runs.contract(run_id, namespace="us")
    with pytest.raises(RunNotFound):
        desk.journal.runs.contract(new_run_id(desk.now_us()))


def test_a_contract_that_is_no_json_is_refused(desk: Desk) -> None:
    with pytest.raises(JournalError):
        record(desk, signals="{nonsense")
    assert desk.journal.runs.contract(desk.make_run()) is None


def test_the_contract_of_a_run_of_the_callers_own_transaction_is_found(
    desk: Desk, request: pytest.FixtureRequest
) -> None:
    if desk.wing == "memory":
        pytest.skip("a journal in memory has no transactions")
    import psycopg2

    record(desk)
    new = desk.new_run()
    connection = psycopg2.connect(request.getfixturevalue("database_url"))
    try:
        desk.journal.runs.start(new, connection=connection)
        assert desk.journal.runs.contract(new.id, connection=connection) == CONTRACT
        with pytest.raises(RunNotFound):
            desk.journal.runs.contract(new.id)
    finally:
        connection.rollback()
        connection.close()
