"""``celery -A shop continuum …`` and ``continuum check``: the same commands on a Celery app's instance."""

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import pytest
from celery.bin.celery import celery
from click.testing import CliRunner, Result

from continuum import Continuum
from continuum.celery_executor import inspection
from continuum.celery_executor.inspection import queues_of
from continuum.cli import COMMANDS, main
from continuum.cli.celery_command import continuum as celery_command
from continuum.cli.shell import ExitCode
from continuum.cli.supervisor import Supervisor
from continuum.journal.memory.journal import MemoryJournal
from continuum.model.ids import new_worker_id
from continuum.model.leases import WorkerInfo
from tests.support.eventually import eventually
from tests.unit.cli import celery_shop
from tests.unit.cli.celery_shop import URL, app, bare, several

SHOP = "tests.unit.cli.celery_shop"


@pytest.fixture(autouse=True)
def _empty() -> Iterator[None]:
    assert app.conf.broker_url  # an app that is not configured yet forgets what a test has changed in its settings
    for name in (URL, f"{URL}.two"):
        MemoryJournal.forget(name.removeprefix("memory://"))
    yield
    for instance in (celery_shop.continuum, celery_shop.one, celery_shop.two):
        instance.close()


def run(command: Any, *arguments: str, **options: Any) -> Result:
    result = CliRunner().invoke(command, list(arguments), **options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def on(celery_app: Any, *arguments: str) -> Result:
    return run(celery_command, *arguments, obj=SimpleNamespace(app=celery_app))


def test_celery_finds_the_sub_command() -> None:
    [point] = [point for point in entry_points(group="celery.commands") if point.name == "continuum"]
    assert point.load() is celery_command
    assert celery.commands["continuum"] is celery_command
    text = run(celery, "continuum", "--help").output
    for name in (*COMMANDS, "dispatcher"):
        assert f"  {name} " in text


def test_other_celery_commands_do_not_wait_for_ours() -> None:
    heavy = ("sqlalchemy", "psycopg2", "continuum.celery_executor.binding", "continuum.cli.check")
    script = f"import sys, celery.bin.celery; print([name for name in {heavy} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert shown.stdout.strip() == "[]", shown.stderr


def test_commands_work_on_the_instance_of_the_celery_app() -> None:
    run_id = run(celery, "-A", SHOP, "continuum", "start", "celery_shop.order", "--input", '["o1"]').stdout.strip()
    assert celery_shop.continuum.get(run_id).workflow == "celery_shop.order"
    listed = json.loads(run(celery, "-A", SHOP, "continuum", "runs", "--json").stdout)
    assert [each["id"] for each in listed["runs"]] == [run_id]
    assert on(app, "show", run_id).exit_code == 0
    assert on(app, "show", "0190a6f0-0000-7000-8000-000000000001").exit_code == ExitCode.NOT_FOUND


def test_another_database_can_be_named() -> None:
    run_id = on(app, "start", "celery_shop.order", "--input", '["o1"]', "--database-url", f"{URL}.two").stdout.strip()
    assert celery_shop.two.get(run_id).id == run_id


def test_an_app_without_an_instance_says_what_to_write() -> None:
    result = on(bare, "runs")
    assert result.exit_code == ExitCode.USAGE
    assert "'bare' has no Continuum instance. Write Continuum.for_celery(app)" in result.stderr


def test_of_several_instances_one_has_to_be_named() -> None:
    result = on(several, "runs")
    assert result.exit_code == ExitCode.USAGE
    assert "several Continuum instances: 'one', 'two'. Say which" in result.stderr
    run_id = on(several, "--instance", "two", "start", "celery_shop.order", "--input", '["o1"]').stdout.strip()
    assert celery_shop.two.find(run_id) is not None
    result = on(several, "--instance", "three", "runs")
    assert "no Continuum instance named 'three'; it has 'one', 'two'" in result.stderr
    document = json.loads(on(several, "runs", "--json").stderr)
    assert document["error"]["exit_code"] == ExitCode.USAGE


def test_the_dispatcher_greets_with_executor_queue_and_masked_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("continuum.cli.dispatcher._dispatch", lambda *_: ExitCode.DONE)
    result = on(app, "dispatcher")
    assert result.exit_code == 0, result.output
    assert "executor    celery: app shop, broker redis://:**@127.0.0.1:1/0, queue continuum_activities" in result.stdout
    assert "secret" not in result.output


def test_further_dispatcher_processes_are_started_through_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(Supervisor, "run", lambda self: started.append(self._command) or ExitCode.DONE)
    monkeypatch.setattr("sys.argv", ["celery", "-A", SHOP, "continuum", "dispatcher", "--processes", "2"])
    assert on(app, "dispatcher", "--processes", "2").exit_code == 0
    assert started[0][1:] == ["-m", "celery", "-A", SHOP, "continuum", "dispatcher"]


# ------------------------------------------------------------------ check


def checked(*arguments: str) -> tuple[int, list[tuple[str, str, str]]]:
    result = run(main, "check", *arguments, "--json")
    document = json.loads(result.stdout)
    assert document["ok"] is (result.exit_code == 0)
    return result.exit_code, [(line["subject"], line["grade"], line["text"]) for line in document["checks"]]


class Workers:
    """What `app.control.inspect` answers."""

    def __init__(self, *, queue: str = "bank", tasks: tuple[str, ...] = ("continuum.activity",)) -> None:
        self._queue = queue
        self._tasks = tasks

    def active_queues(self) -> Any:
        names = [self._queue, "continuum_activities"]  # what other tests have declared goes there
        return {"w@1": [{"name": name} for name in names], "other@1": [{"name": "unrelated"}]} if self._queue else None

    def registered(self) -> Any:
        return {"w@1": [*self._tasks, "celery_shop.charge [rate_limit=3/m]"], "other@1": []}

    def stats(self) -> Any:
        return {"w@1": {"pool": {"implementation": "celery.concurrency.thread:TaskPool"}}}


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(inspection, "broker_findings", lambda _: [])

    def answer(**options: Any) -> None:
        monkeypatch.setattr(app.control, "inspect", lambda **_: Workers(**options))

    return answer


def codes(lines: list[tuple[str, str, str]]) -> dict[str, str]:
    return {
        text.split(":")[0]: grade
        for subject, grade, text in lines
        if subject == "celery" and "broker redis" not in text
    }


def test_check_says_what_is_well() -> None:
    code, lines = checked("--database-url", URL)
    assert code == 0
    assert [line[:2] for line in lines] == [
        ("database", "ok"), ("clock", "ok"), ("workers", "warning"), ("declared", "ok"),
    ]  # fmt: skip
    with Continuum(URL).running():
        eventually(lambda: checked("--database-url", URL)[1][2][1] == "ok")
    assert "declared" in run(main, "check", "--database-url", URL).stdout


def test_a_broker_that_is_away_is_broken_and_its_password_is_not_shown() -> None:
    code, lines = checked("-A", SHOP + ":continuum")
    assert code == ExitCode.ERROR
    assert ("celery", "ok", "app shop, broker redis://:**@127.0.0.1:1/0, queue continuum_activities") in lines
    assert lines[-1][1] == "broken"
    assert lines[-1][2].startswith("broker-unreachable: the broker redis://:**@127.0.0.1:1/0 cannot be reached")
    assert "secret" not in str(lines)


def test_celery_workers_alone_do_not_pass_for_dispatchers() -> None:
    journal = celery_shop.continuum.journal
    celery_worker = WorkerInfo(new_worker_id(), "celery@here", 17, timedelta(minutes=1), ("bank",))
    journal.workers.register(celery_worker)
    _, lines = checked("-A", SHOP + ":continuum")
    [(_, grade, text)] = [line for line in lines if line[0] == "workers"]
    assert grade == "warning"
    assert text.startswith("no dispatcher is running, only 1 for activities, on celery@here: start `continuum-disp")
    journal.workers.register(WorkerInfo(new_worker_id(), "here", 18, timedelta(minutes=1), (), ("celery_shop.order",)))
    _, lines = checked("-A", SHOP + ":continuum")
    assert ("workers", "ok") in [(subject, grade) for subject, grade, _ in lines]


def test_workers_and_their_pools_are_asked(reachable: Any) -> None:
    reachable()
    code, lines = checked("-A", SHOP + ":continuum")
    assert (code, codes(lines)) == (0, {"no-time-limits": "warning"})
    reachable(queue="elsewhere")
    code, lines = checked("-A", SHOP + ":continuum")
    assert (code, codes(lines)) == (0, {"no-consumer": "warning", "no-time-limits": "warning"})
    assert "no Celery worker takes from queue 'bank' (celery_shop.charge): start one with -Q bank" in str(lines)
    reachable(tasks=())
    code, lines = checked("-A", SHOP + ":continuum")
    assert (code, codes(lines)["task-unknown"]) == (ExitCode.ERROR, "broken")
    reachable(queue="")
    _, lines = checked("-A", SHOP + ":continuum")
    assert codes(lines) == {"no-worker": "warning"}
    assert "start one with celery -A … worker -Q bank" in lines[-1][2]


def test_only_activities_of_the_executor_have_queues_there() -> None:
    queues = queues_of(celery_shop.continuum, app)
    assert queues["bank"] == ["celery_shop.charge"]
    assert "celery_shop.stamp" not in str(queues)


def test_a_configuration_that_cannot_work_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf.changes, "accept_content", ["pickle"])
    code, lines = checked("-A", SHOP + ":continuum")
    assert code == ExitCode.USAGE
    assert "Add 'json' to it" in lines[-1][2]


def test_an_eager_app_is_only_told_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf.changes, "task_always_eager", True)
    code, lines = checked("-A", SHOP + ":continuum")
    assert (code, codes(lines)["eager"]) == (0, "warning")


def test_an_absent_database_is_broken_and_the_rest_is_looked_at() -> None:
    code, lines = checked("--database-url", "postgresql://nobody@127.0.0.1:1/none")
    assert code == ExitCode.UNAVAILABLE
    assert [line[:2] for line in lines] == [("database", "broken"), ("declared", "ok")]
