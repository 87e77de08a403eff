"""A deploy meets runs that are under way: each edit of their code gets its verdict, and none is ever lost or wrong.

Real processes: the old dispatcher is killed, the new code is put in its place, a new dispatcher starts; in the end the
old code comes back for the runs that need it.
"""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from continuum import Continuum, RunTerminal
from continuum.errors import ContinuumError
from continuum.model.events import EventType
from tests.support.audit import audit
from tests.support.edits import EDITS, OLD, Edit, Verdict
from tests.support.eventually import eventually
from tests.support.processes import Process, Processes

NAMES = [edit.name for edit in EDITS]
# What the hash of the code does not cover: both dispatchers believe to have the code of these runs.
UNSEEN = {"activity_body", "activity_renamed", "constant_changed", "other_module_edited"}
INSTANCE = """
import os
from datetime import timedelta

from continuum import Continuum

continuum = Continuum(
    modules={modules},
    lease_ttl=timedelta(seconds=3),
    heartbeat_interval=timedelta(seconds=0.5),
    reap_interval=timedelta(seconds=0.5),
    poll_interval=timedelta(seconds=0.2),
    concurrency=64,
    cached_runs=int(os.environ.get("SHOP_CACHED_RUNS", "10000")),
)
"""
# The first attempt of a charge is still under way when its process is killed.
WAITS = """
import time


def hang(order, attempt):
    if order == "charging" and attempt == 1:
        time.sleep(600)
"""
PRICES = """
def rounded(value):
    return value
"""
START = """
import sys

from deployed import continuum

names, *moments = sys.argv[1:]
for name in names.split(","):
    for moment in moments:
        print(name, moment, continuum.start(name, moment).id)
"""


class Release:
    """One state of the code, in a directory of its own."""

    def __init__(self, directory: Path, *, new: bool) -> None:
        self.directory = directory
        package = directory / "deployed"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(INSTANCE.format(modules=[f"deployed.{name}" for name in NAMES]))
        (package / "waits.py").write_text(WAITS)
        for edit in EDITS:
            (package / f"{edit.name}.py").write_text(edit.new if new else edit.old)
            prices = PRICES
            for found, replaced in edit.elsewhere if new else ():
                assert prices.count(found) == 1
                prices = prices.replace(found, replaced)
            (package / f"prices_{edit.name}.py").write_text(prices)

    def env(self, url: str) -> dict[str, str]:
        return {"CONTINUUM_DATABASE_URL": url, "PYTHONPATH": str(self.directory)}

    def dispatcher(self, processes: Processes, url: str, **env: str) -> Process:
        started = processes.python("-m", "continuum.cli.dispatcher", "-A", "deployed", env={**self.env(url), **env})
        started.expect("is ready", 30)
        return started

    def start_runs(
        self, processes: Processes, url: str, *moments: str, names: Iterable[str] = NAMES
    ) -> dict[tuple[str, str], str]:
        """Start a run of each workflow for each moment; return their ids."""
        starter = processes.python("-c", START, ",".join(names), *moments, env=self.env(url))
        assert starter.wait(30) == 0, starter.output
        rows = (line.split() for line in starter.output.splitlines() if len(line.split()) == 3)
        return {(name, moment): run_id for name, moment, run_id in rows}


def types_of(continuum: Continuum, run_id: str) -> list[str]:
    return [str(event.type) for event in continuum.history(run_id)]


def stands(continuum: Continuum, run_id: str, moment: str) -> bool:
    """Whether the run is where the deploy is to meet it."""
    types = types_of(continuum, run_id)
    if moment == "parked":
        return EventType.SIGNAL_AWAITED in types
    return types.count(EventType.ACTIVITY_SCHEDULED) == 2


def result_of(continuum: Continuum, run_id: str) -> Any:
    try:
        return continuum.handle(run_id).result(timeout=40)
    except ContinuumError as error:
        run = continuum.get(run_id)
        return f"{run.state}, {run.stuck_reason}: {error}"


@dataclass
class Fate:
    """One run, what is to become of it, and what became of it once the new code had come."""

    edit: Edit
    moment: str
    run_id: str
    state: str = ""
    reason: str = ""

    @property
    def expected(self) -> Verdict:
        return self.edit.parked if self.moment == "parked" else self.edit.charging

    @property
    def goes_on(self) -> bool:
        return self.expected.kind in {"same", "adopted"}

    def await_verdict(self, continuum: Continuum) -> None:
        def settled() -> bool:
            run = continuum.get(self.run_id)
            self.state, self.reason = str(run.state), run.stuck_reason or ""
            return run.ended or run.state == "stuck" or self.expected.kind == "waits"

        eventually(settled, 60)

    def verdict(self, continuum: Continuum) -> Verdict:
        """Return the verdict that was given, with the reason that was expected if it stands in the one given."""
        result = result_of(continuum, self.run_id)
        if self.state == "completed":
            adopted = EventType.VERSION_ADOPTED in types_of(continuum, self.run_id)
            return Verdict("adopted" if adopted else "same", result)
        wanted = self.expected.reason.replace("EDIT", self.edit.name)
        reason = self.expected.reason if wanted in self.reason else self.reason
        return Verdict("waits" if self.state in {"running", "suspended"} else self.state, result, reason)


@pytest.mark.timeout(240)
def test_every_run_under_way_gets_its_verdict(database_url: str, tmp_path: Path, processes: Processes) -> None:
    old, new = Release(tmp_path / "old", new=False), Release(tmp_path / "new", new=True)
    with Continuum(database_url) as continuum:
        runs = old.start_runs(processes, database_url, "parked", "charging")
        edits = {edit.name: edit for edit in EDITS}
        fates = [Fate(edits[name], moment, run_id) for (name, moment), run_id in runs.items()]
        assert len(fates) == 2 * len(EDITS)
        first = old.dispatcher(processes, database_url)
        eventually(lambda: all(stands(continuum, fate.run_id, fate.moment) for fate in fates), 60)
        first.kill()

        second = new.dispatcher(processes, database_url)
        for fate in fates:
            # Until something happens to it, a parked run is not even looked at.
            continuum.signal(fate.run_id, fate.edit.signal if fate.goes_on else "go", "gone")
        for fate in fates:
            fate.await_verdict(continuum)
        assert second.terminate() == 0, second.output

        third = old.dispatcher(processes, database_url)
        given = {(fate.edit.name, fate.moment): fate.verdict(continuum) for fate in fates}
        assert given == {(fate.edit.name, fate.moment): fate.expected for fate in fates}
        assert third.terminate() == 0, third.output
    audit(database_url, ledger=False)


@pytest.mark.timeout(120)
def test_old_and_new_dispatchers_work_side_by_side(database_url: str, tmp_path: Path, processes: Processes) -> None:
    """Each run is turned by the code it was started with, though both dispatchers could take it at any moment."""
    old, new = Release(tmp_path / "old", new=False), Release(tmp_path / "new", new=True)
    edits = {edit.name: edit for edit in EDITS if edit.name not in {*UNSEEN, "argument_required"}}
    with Continuum(database_url) as continuum:
        # Nothing stays in memory: every signal is a claim, which both could win.
        first = old.dispatcher(processes, database_url, SHOP_CACHED_RUNS="1")
        second = new.dispatcher(processes, database_url, SHOP_CACHED_RUNS="1")
        before = old.start_runs(processes, database_url, "parked", names=[*edits, "argument_required"])
        after = new.start_runs(processes, database_url, "parked", names=[*edits])
        for (name, _), run_id in after.items():
            with suppress(RunTerminal):  # one of them waits for nothing
                continuum.signal(run_id, edits[name].signal, "gone")
        for run_id in before.values():
            continuum.signal(run_id, "go", "gone")
        results = {name: result_of(continuum, run_id) for (name, _), run_id in before.items()}
        assert results == dict.fromkeys(results, OLD)
        assert [result for run_id in after.values() if isinstance(result := result_of(continuum, run_id), str)] == []
        for run_id in [*before.values(), *after.values()]:
            run = continuum.get(run_id)
            assert EventType.VERSION_ADOPTED not in types_of(continuum, run_id), run
            assert run.stuck_since is None, run
        assert first.terminate() == second.terminate() == 0
    audit(database_url, ledger=False)


def test_there_are_enough_edits_and_all_kinds_of_verdicts() -> None:
    assert len(EDITS) >= 20
    assert {edit.parked.kind for edit in EDITS} == {"same", "adopted", "stuck", "waits"}
    assert all(edit.parked.result == OLD for edit in EDITS if edit.parked.kind in {"stuck", "waits"})
