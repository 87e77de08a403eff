"""The audit of patched(): what open runs answer, and when the old branch can go. On both wings, with real turns."""

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import psycopg2
import pytest

from continuum import Continuum, patched, wait_signal, workflow
from continuum.client.patches import PatchAudit
from continuum.errors import ConfigError, RunNotFound, UnknownVersion
from continuum.model.histories import dump_history, load_history
from continuum.model.leases import WorkflowVersion
from continuum.model.patches import PatchSite
from tests.support.eventually import eventually

_WAITS = "suspended"


@workflow(name="audited")
async def audited(wanted: str) -> list[bool]:
    if wanted == "first":
        await wait_signal("before")
    answers = [patched("one")]
    await wait_signal("go")
    answers.append(helper())
    await wait_signal("go")
    return answers


def helper() -> bool:
    return patched("two")


@workflow(name="unpatched")
async def unpatched() -> None:
    await wait_signal("go")


def start(continuum: Continuum, flow: Any, *args: Any) -> str:
    handle = continuum.start(flow, *args)
    eventually(lambda: continuum.get(handle.id).state == _WAITS)
    return handle.id


def audit(continuum: Continuum) -> dict[str, tuple[int, int, int, int, bool]]:
    return {
        one.patch: (one.taken, one.coming, one.refused, one.unknown, one.removable)
        for one in continuum.patches()
        if one.workflow == "audited"
    }


@pytest.fixture
def running(continuum: Continuum) -> Iterator[Continuum]:
    with continuum.running():
        yield continuum


def test_a_workflow_knows_its_patch_sites() -> None:
    """WC-03."""
    one, two = audited.patches
    first = audited.function.__code__.co_firstlineno
    file = "tests/integration/client/test_patch_audit.py"
    assert one == PatchSite("one", file, first + 4, "audited")
    assert two == PatchSite("two", file, helper.__code__.co_firstlineno + 1, "helper")
    assert unpatched.patches == ()


def test_without_open_runs_every_patch_can_go(continuum: Continuum) -> None:
    assert audit(continuum) == {"one": (0, 0, 0, 0, True), "two": (0, 0, 0, 0, True)}


def test_runs_of_this_code_take_the_new_branch_or_will(running: Continuum) -> None:
    start(running, audited, "first")
    start(running, audited, "second")
    assert audit(running) == {"one": (1, 1, 0, 0, True), "two": (0, 2, 0, 0, True)}


def test_runs_that_have_not_begun_will(continuum: Continuum) -> None:
    continuum.start(audited, "second")
    assert audit(continuum) == {"one": (0, 1, 0, 0, True), "two": (0, 1, 0, 0, True)}


def test_a_run_that_took_the_code_over_may_have_passed_the_place(running: Continuum) -> None:
    run_id = start(running, audited, "second")
    # As if it had been started with other code, of which the source is on record, and has no patches.
    _repin(running, run_id, "elsewhere", source="async def audited(): ...")
    assert audit(running) == {"one": (1, 0, 0, 0, True), "two": (0, 0, 1, 0, False)}
    _repin(running, run_id, "elsewhere with it", source="async def audited():\n    patched('two')")
    assert audit(running)["two"] == (0, 1, 0, 0, True)
    _repin(running, run_id, "lost", source=None)
    assert audit(running)["two"] == (0, 0, 0, 1, False)


def test_a_patch_is_in_use_until_the_last_run_from_before_it_has_ended(running: Continuum) -> None:
    """CLI-06 of the original."""
    before, _ = start(running, audited, "second"), start(running, audited, "second")
    _repin(running, before, "without", source="async def audited(): ...")
    assert audit(running)["two"] == (0, 1, 1, 0, False)
    running.terminate(before)
    assert audit(running)["two"] == (0, 1, 0, 0, True)


def test_a_marker_of_code_that_no_longer_asks_is_shown_without_a_place(running: Continuum) -> None:
    start(running, audited, "second")
    _add_marker(running)
    [found] = [one for one in running.patches() if one.patch == "forgotten"]
    assert (found.sites, found.taken, found.removable) == ((), 1, False)
    assert isinstance(found, PatchAudit)


def test_the_twin_answers_alike(running: Continuum) -> None:
    start(running, audited, "second")
    assert asyncio.run(running.aio.patches()) == running.patches()


# -- histories and rehearsals, over the client


def test_a_history_leaves_and_is_rehearsed(running: Continuum) -> None:
    run_id = start(running, audited, "second")
    recorded = running.dump_history(run_id)
    assert load_history(dump_history(recorded)) == recorded
    assert (recorded.run_id, recorded.workflow, recorded.version_hash) == (run_id, "audited", audited.hash)
    assert (recorded.state, len(recorded.events)) == ("suspended", 4)
    found = running.rehearse(recorded)
    assert (found.fits, found.matched, found.patches) == (True, 2, {"one": True})
    assert found == running.rehearse(run_id) == running.rehearse(run_id, flow=audited)
    other = running.rehearse(run_id, flow="unpatched")
    assert not other.fits
    assert asyncio.run(running.aio.dump_history(run_id)) == recorded
    assert asyncio.run(running.aio.rehearse(run_id)) == found


def test_what_cannot_be_rehearsed_says_why(continuum: Continuum) -> None:
    with pytest.raises(RunNotFound):
        continuum.rehearse("018f0000-0000-7000-8000-000000000001")
    with pytest.raises(RunNotFound):
        continuum.dump_history("nonsense")
    with pytest.raises(ConfigError, match="cannot be rehearsed"):
        continuum.rehearse(7)  # type: ignore[arg-type]
    run_id = continuum.start(unpatched).id
    with pytest.raises(UnknownVersion, match="no code is loaded here for workflow 'nobody'"):
        continuum.rehearse(run_id, flow="nobody")
    with pytest.raises(RunNotFound):
        continuum.dump_history(run_id, namespace="elsewhere")


def _repin(continuum: Continuum, run_id: str, version_hash: str, *, source: str | None) -> None:
    journal: Any = continuum.journal
    if source is not None:
        journal.workers.record_versions([WorkflowVersion("audited", 1, version_hash, source, None, None)])
    if hasattr(journal, "_store"):
        journal._store.runs[run_id].version_hash = version_hash
        return
    _execute(continuum, f"update continuum_runs set version_hash = '{version_hash}' where id = '{run_id}'")


def _add_marker(continuum: Continuum) -> None:
    journal: Any = continuum.journal
    if hasattr(journal, "_store"):
        for events in journal._store.events.values():
            for index, event in enumerate(events):
                if event.type == "patch_marked":
                    events[index] = msgspec.structs.replace(event, name="forgotten")
        return
    _execute(continuum, "update continuum_events set name = 'forgotten' where type = 'patch_marked'")


def _execute(continuum: Continuum, sql: str) -> None:
    connection = psycopg2.connect(continuum.url.replace("postgresql+psycopg2", "postgresql"))
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(sql)
    finally:
        connection.close()
