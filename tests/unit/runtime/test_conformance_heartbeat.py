"""The heartbeat: errors do not cost the lease, a missing row does, and a hung thread must not look alive."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from continuum.errors import JournalUnavailable
from continuum.journal.memory import MemoryJournal
from continuum.model.ids import WorkerId
from continuum.runtime.heartbeat import Heartbeat
from continuum.runtime.lease import Lease, LeaseState

HOUR = timedelta(hours=1)


class Bench:
    """A heartbeat on a memory journal, passed by hand."""

    def __init__(self, journal: MemoryJournal, ttl: timedelta = HOUR) -> None:
        self.journal = journal
        self.silence = 0.0
        self.changed = 0
        self.lease = Lease(ttl)
        self.heartbeat = Heartbeat(
            journal=journal,
            lease=self.lease,
            interval=timedelta(minutes=1),
            turn_limit=timedelta(seconds=60),
            silence=lambda: self.silence,
            changed=self._changed,
        )
        self.heartbeat.register()

    def _changed(self) -> None:
        self.changed += 1

    @property
    def expires_at(self) -> int:
        [record] = self.journal.workers.list_workers()
        return record.expires_at


@pytest.fixture
def bench() -> Iterator[Bench]:
    with closing(MemoryJournal()) as journal:
        yield Bench(journal)


def test_a_beat_prolongs_the_lease_in_the_database(bench: Bench) -> None:
    before = bench.expires_at
    bench.heartbeat.run_once()
    assert bench.expires_at > before
    assert bench.lease.live


def test_an_error_of_the_database_at_a_beat_keeps_the_lease_and_the_next_beat_prolongs_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """X-083, F-52: only the answer that the row is gone ends a worker."""
    before, beat = bench.expires_at, bench.journal.workers.beat
    errors = [JournalUnavailable("connection refused"), OSError("broken pipe")]

    def away(worker: WorkerId, ttl: timedelta) -> bool:
        if errors:
            raise errors.pop(0)
        return beat(worker, ttl)

    monkeypatch.setattr(bench.journal.workers, "beat", away)
    for _ in range(2):
        assert bench.heartbeat._guarded_pass() is not None
        assert bench.lease.live
    bench.heartbeat._guarded_pass()
    assert errors == []
    assert bench.expires_at > before
    assert bench.changed == 0


def test_a_worker_whose_row_is_gone_lets_go_and_takes_a_new_id(bench: Bench) -> None:
    """LEASE-18."""
    worker = bench.lease.worker
    bench.journal.workers.deregister(worker)
    bench.heartbeat.run_once()
    assert bench.lease.state is LeaseState.LOST
    assert bench.changed == 1
    bench.heartbeat.run_once()
    assert bench.lease.worker == worker, "not before every run has been dropped"
    bench.lease.dropped()
    bench.heartbeat.run_once()
    assert bench.lease.live
    assert bench.lease.worker != worker


def test_a_worker_whose_turns_hang_sends_no_beat(bench: Bench) -> None:
    before = bench.expires_at
    bench.silence = 61.0
    bench.heartbeat.run_once()
    assert bench.expires_at == before
    bench.silence = 0.0
    bench.heartbeat.run_once()
    assert bench.expires_at > before


def test_a_worker_distrusts_its_lease_before_the_database_does(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr("continuum.runtime.lease.time.monotonic", lambda: now[0])
    lease = Lease(timedelta(seconds=10))
    lease.registered(WorkerId("w"), sent=1000.0)
    now[0] += 8.9
    assert lease.live
    lease.prolonged(WorkerId("another"), sent=now[0])
    now[0] += 0.2
    assert not lease.live
    assert lease.state is LeaseState.LOST
    lease.prolonged(WorkerId("w"), sent=now[0])
    assert not lease.live, "a beat that is confirmed too late does not bring it back"
