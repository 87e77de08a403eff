"""``continuum versions`` and its kin: what is loaded, what open runs need, what can go; and the code of a run."""

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result

from continuum import Continuum, RunState
from continuum.cli import main
from continuum.cli.shell import ExitCode
from continuum.client.versions import Standing
from continuum.journal.memory.journal import MemoryJournal
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal
from continuum.model.ids import RunId, new_run_id, new_worker_id
from continuum.model.leases import WorkerInfo, WorkflowVersion, code_mark
from continuum.model.runs import NewRun
from tests.integration.client import flows
from tests.unit.cli.shop import URL, continuum

APP = "tests.unit.cli.shop"
NAME = "client.sum"
NOBODY = "0190a6f0-0000-7000-8000-000000000001"


@pytest.fixture
def journal() -> Iterator[Journal]:
    """Yield the app's store, empty."""
    MemoryJournal.forget(URL.removeprefix("memory://"))
    opened = open_journal(URL)
    yield opened
    opened.close()
    continuum.close()


@pytest.fixture
def shop(journal: Journal) -> Iterator[Continuum]:
    with Continuum(URL, concurrency=2) as instance:
        yield instance


def cli(*arguments: str, app: str | None = APP) -> Result:
    chosen = () if app is None else ("-A", app)
    result = CliRunner().invoke(main, [*chosen, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def document(*arguments: str) -> Any:
    return json.loads(cli(*arguments, "--json").stdout)


def record(journal: Journal, version_hash: str, *, workflow: str = NAME, version: int = 1, source: str = "old") -> None:
    journal.workers.record_versions([WorkflowVersion(workflow, version, version_hash, source)])


def start(journal: Journal, version_hash: str, *, workflow: str = NAME, version: int = 1) -> RunId:
    now_us = round(journal.check().timestamp() * 1_000_000)
    run = NewRun(
        id=new_run_id(now_us),
        namespace="default",
        workflow=workflow,
        version=version,
        version_hash=version_hash,
        started='{"input":[[1,2],{}],"seed":"5eed"}',
    )
    return journal.runs.start(run)[0]


def standings(shop: Continuum, workflow: str = NAME) -> dict[str, str]:
    return {version.hash: version.standing for version in shop.versions() if version.workflow == workflow}


def test_versions_say_who_has_them_and_which_runs_need_them(shop: Continuum, journal: Journal) -> None:
    own = flows.total.hash
    marks = (code_mark(NAME, 1, own), code_mark(NAME, 1, "beside"))
    journal.workers.register(WorkerInfo(new_worker_id(), "host", 1, timedelta(hours=1), (), (NAME,), marks))
    dead = (code_mark(NAME, 1, "dead"),)
    journal.workers.register(WorkerInfo(new_worker_id(), "host", 1, timedelta(seconds=-1), (), (NAME,), dead))
    for version_hash in (own, "retired", "dead"):
        record(journal, version_hash)
    record(journal, "foreign", workflow="of.another.app")
    for _ in range(2):
        start(journal, "replaced")
    start(journal, "gone", version=9)
    assert standings(shop) == {
        own: Standing.LOADED,
        "beside": Standing.LOADED,
        "retired": Standing.RETIRABLE,
        "dead": Standing.RETIRABLE,
        "replaced": Standing.REPLACED,
        "gone": Standing.MISSING,
    }
    assert standings(shop, "of.another.app") == {"foreign": Standing.IDLE}
    found = {version.hash: version for version in shop.versions() if version.workflow == NAME}
    assert (found[own].dispatchers, found[own].loaded_here) == (1, True)
    assert (found["beside"].dispatchers, found["beside"].loaded_here, found["beside"].first_seen) == (1, False, None)
    assert (found["replaced"].open_runs, found["replaced"].stuck_runs) == (2, 0)
    said = cli("versions").stdout
    for word in ("WORKFLOW", own[:12], "replaced", "missing", "retirable", "idle", "never"):
        assert word in said


def test_an_empty_database_without_an_app_has_no_versions(journal: Journal) -> None:
    result = cli("versions", "--database-url", "memory://versions-of-nothing", app=None)
    # Declared in this process by other tests, perhaps, and by no dispatcher.
    assert result.exit_code == 0


def test_all_that_open_runs_need_is_loaded(shop: Continuum, journal: Journal) -> None:
    shop.start(flows.total, 1, 2)
    ended = start(journal, "gone", version=9)
    journal.runs.terminate(ended, namespace=None, reason="")
    found = document("versions", "check", "--strict")
    assert found == {"ready": True, "strict": True, "required": 1, "loaded": 1, "missing": []}
    assert cli("versions", "check", "--strict").exit_code == ExitCode.DONE


def test_the_strict_check_fails_when_the_very_code_is_missing(shop: Continuum, journal: Journal) -> None:
    shop.start(flows.total, 1, 2)
    start(journal, "replaced")
    assert cli("versions", "check").exit_code == ExitCode.DONE
    assert document("versions", "check")["ready"] is True
    strict = cli("versions", "check", "--strict")
    assert strict.exit_code == ExitCode.ERROR
    assert "1 loaded here, 1 missing" in strict.stdout
    found = document("versions", "check", "--strict")
    assert (found["ready"], found["required"], found["loaded"]) == (False, 2, 1)
    assert [(one["hash"], one["open_runs"]) for one in found["missing"]] == [("replaced", 1)]


def test_the_check_fails_when_a_version_is_missing_whatever_its_code(shop: Continuum, journal: Journal) -> None:
    for version_hash in ("one", "two"):
        start(journal, version_hash, version=9)
    found = document("versions", "check")
    assert (found["required"], found["loaded"], len(found["missing"])) == (1, 0, 2)
    result = cli("versions", "check")
    assert (result.exit_code, "0 loaded here, 1 missing" in result.stdout) == (ExitCode.ERROR, True)


def test_stuck_runs_count_as_open(shop: Continuum, journal: Journal) -> None:
    run_id = start(journal, "gone", version=9)
    journal._store.runs[run_id].state = RunState.STUCK  # type: ignore[attr-defined]
    found = document("versions", "check")
    assert (found["ready"], found["missing"][0]["stuck_runs"]) == (False, 1)


def test_a_dry_run_lists_what_can_be_retired_and_keeps_it(shop: Continuum, journal: Journal) -> None:
    record(journal, flows.total.hash)
    record(journal, "old")
    said = cli("versions", "retire").stdout
    assert "1 version can be retired: add --execute." in said
    assert [one["hash"] for one in document("versions", "retire")["versions"]] == ["old"]
    assert journal.workers.source_of(NAME, "old") == "old"


def test_only_what_nothing_needs_is_retired_and_once(shop: Continuum, journal: Journal) -> None:
    kept = [(NAME, flows.total.hash), (NAME, "pinned"), (NAME, "held"), ("of.another.app", "idle")]
    for name, version_hash in (*kept, (NAME, "old"), (NAME, "ended")):
        record(journal, version_hash, workflow=name)
    start(journal, "pinned")
    journal.runs.terminate(start(journal, "ended"), namespace=None, reason="")
    marks = (code_mark(NAME, 1, "held"),)
    journal.workers.register(WorkerInfo(new_worker_id(), "host", 1, timedelta(hours=1), (), (NAME,), marks))
    found = document("versions", "retire", "--execute")
    assert sorted(one["hash"] for one in found["versions"]) == ["ended", "old"]
    assert all(journal.workers.source_of(*code) for code in kept)
    assert not journal.workers.source_of(NAME, "old")
    assert cli("versions", "retire", "--execute").stdout == "Nothing to retire.\n"


def test_the_code_of_a_run_is_shown(shop: Continuum) -> None:
    with shop.running():
        handle = shop.start(flows.total, 1, 2)
        handle.result(timeout=20)
        source = shop.source(handle.id)
    assert source is not None
    assert "async def total" in source
    assert "async def total" in cli("show", handle.id, "--source").stdout
    assert document("show", handle.id, "--source")["source"] == source
    assert document("show", handle.id)["source"] is None


def test_code_that_no_dispatcher_has_had_is_not_on_record(shop: Continuum, journal: Journal) -> None:
    run_id = start(journal, "unheard")
    assert shop.source(run_id) is None
    assert "not on record" in cli("show", run_id, "--source").stdout
    assert cli("show", NOBODY, "--source").exit_code == ExitCode.NOT_FOUND


def test_the_header_of_a_stuck_run_says_since_when(shop: Continuum, journal: Journal) -> None:
    run_id = start(journal, "unheard")
    row = journal._store.runs[run_id]  # type: ignore[attr-defined]
    row.state, row.stuck_since = RunState.STUCK, row.created_at
    assert "stuck since" in cli("show", run_id).stdout


def test_the_calls_have_async_twins(shop: Continuum, journal: Journal) -> None:
    run_id = start(journal, "unheard")

    async def ask() -> None:
        assert {one.hash for one in await shop.aio.versions()} >= {"unheard"}
        assert not (await shop.aio.check_versions(strict=True)).ready
        assert await shop.aio.retire_versions() == []
        assert await shop.aio.source(run_id) is None

    asyncio.run(ask())
