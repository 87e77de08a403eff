"""A dispatcher is killed with SIGKILL between the mark and the message, between the message and knowing of it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from continuum import RunHandle
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal
from tests.crash.test_frozen_dispatcher import frozen
from tests.support.audit import audit, fetch
from tests.support.eventually import eventually
from tests.support.outbox_app import App
from tests.support.processes import Process, Processes
from tests.support.transports import FakeWorkers, FileTransport


class Stage:
    """A client, a broker in a file, workers that the test may let loose, and dispatchers to be killed."""

    def __init__(self, url: str, journal: Journal, continuum: App, processes: Processes, messages: Path) -> None:
        self.url = url
        self.journal = journal
        self.transport = FileTransport(messages)
        self._continuum = continuum
        self._processes = processes
        self._messages = messages

    def start(self, workflow: str, size: int, runs: int = 1) -> list[RunHandle[int]]:
        return [self._continuum.start(workflow, size) for _ in range(runs)]

    def workers(self) -> FakeWorkers:
        return FakeWorkers(self.journal, self.transport)

    def dispatcher(self, **env: str) -> Process:
        """Start a dispatcher; return it once it says that it is up, or has died on the way."""
        started = self._processes.python(
            "-m",
            "continuum.cli.dispatcher",
            "-A",
            "tests.support.outbox_app",
            env={"CONTINUUM_DATABASE_URL": self.url, "OUTBOX_APP_MESSAGES": str(self._messages), **env},
        )
        eventually(lambda: not started.alive or "continuum-dispatcher" in started.output, 20)
        return started


@pytest.fixture
def stage(database_url: str, processes: Processes, tmp_path: Path) -> Iterator[Stage]:
    journal = open_journal(database_url)
    with App(journal=journal, modules=["tests.support.outbox_app"]) as continuum:
        yield Stage(database_url, journal, continuum, processes, tmp_path / "messages")
    journal.close()


@pytest.mark.timeout(90)
@pytest.mark.parametrize(
    "crash_at",
    [
        "outbox.marked:1",
        "outbox.marked:3",
        "outbox.publishing:1",
        "outbox.publishing:6",
        "outbox.published:1",
        "outbox.published:6",
        "commit.answered:3",
    ],
)
def test_what_was_marked_is_published_by_another_and_run_once(stage: Stage, crash_at: str) -> None:
    with stage.workers() as workers:
        handles = [*stage.start("outbox.fan", 6, 3), *stage.start("outbox.steps", 6, 3)]
        victim = stage.dispatcher(CONTINUUM_CRASH_AT=crash_at)
        eventually(lambda: not victim.alive, 30)
        assert victim.returncode == -signal.SIGKILL, victim.output

        heir = stage.dispatcher()
        assert [handle.result(timeout=40) for handle in handles] == [15] * 3 + [6] * 3
        assert heir.terminate() == 0, heir.output
    audit(stage.url, ledger=False)
    assert len(workers.ran) == 36
    assert set(workers.ran.values()) == {1}


@pytest.mark.timeout(90)
@pytest.mark.parametrize("freeze_at", ["outbox.marked:1", "outbox.publishing:4", "outbox.published:4"])
def test_messages_of_a_thawed_dispatcher_find_nothing_to_claim(stage: Stage, freeze_at: str) -> None:
    with stage.workers() as workers:
        handles = stage.start("outbox.fan", 6, 3)
        zombie = stage.dispatcher(CONTINUUM_FREEZE_AT=freeze_at)
        eventually(lambda: frozen(zombie.pid), 30)
        heir = stage.dispatcher()
        assert [handle.result(timeout=40) for handle in handles] == [15] * 3

        zombie.thaw()
        zombie.expect("the lease was lost", timeout=20)
        later = stage.start("outbox.steps", 3, 3)
        assert heir.terminate(timeout=20) == 0, heir.output
        assert [handle.result(timeout=40) for handle in later] == [3] * 3
        assert zombie.terminate(timeout=20) == 0, zombie.output
    audit(stage.url, ledger=False)
    assert len(workers.ran) == 27
    assert set(workers.ran.values()) == {1}


@pytest.mark.timeout(90)
def test_a_dispatcher_killed_after_handing_over_leaves_nothing_to_be_published_again(
    stage: Stage,
) -> None:
    [handle] = stage.start("outbox.fan", 3)
    victim = stage.dispatcher(CONTINUUM_CRASH_AT="outbox.handed_over:1")
    eventually(lambda: len(stage.transport.lines()) == 3)
    assert victim.terminate() == -signal.SIGKILL, victim.output
    query = "select state, claimed_by, dispatch_no from continuum_tasks"
    assert fetch(stage.url, query) == [("dispatched", None, 1)] * 3

    heir = stage.dispatcher()
    # The victim's row has expired and is swept: nothing was its own any more.
    eventually(lambda: len(fetch(stage.url, "select 1 from continuum_workers")) == 1, 20)
    with stage.workers() as workers:
        assert handle.result(timeout=40) == 3
        assert heir.terminate() == 0, heir.output
    assert [number for _, number, _ in stage.transport.lines()] == [1, 1, 1]
    assert set(workers.ran.values()) == {1}
    audit(stage.url, ledger=False)
