"""Whose code takes a run: its very own first, other code of its version once nobody has that; and stuck runs later."""

from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta

import psycopg2
import pytest

from continuum.journal.memory import MemoryJournal
from continuum.journal.memory.rows import micros
from continuum.journal.requests import ClaimReply, ClaimRequest, LookReply, LookRequest, StickRequest
from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId, new_worker_id
from continuum.model.leases import WITHDRAWN, ClaimedRun, WorkerInfo, WorkflowVersion, code_mark, read_mark
from continuum.model.runs import RunState
from tests.support.journals import DEAD, HOUR, NOW, Desk, event, grant_of

OLD, NEW = "hash-1", "hash-2"
MINUTE = timedelta(minutes=1)
ORDER = (("order", 1),)


def deploy(desk: Desk, version_hash: str | None, *, workflow: str = "order", version: int = 1) -> WorkerId:
    """Register a dispatcher with this code; None: one of a release that does not say what it has loaded."""
    worker = new_worker_id()
    marks = () if version_hash is None else (code_mark(workflow, version, version_hash),)
    desk.journal.workers.register(WorkerInfo(worker, "host", 1, HOUR, (), (workflow,), marks))
    return worker


def claim(
    desk: Desk,
    worker: WorkerId,
    *hashes: str,
    workflows: Sequence[tuple[str, int]] = ORDER,
    limit: int = 100,
) -> list[RunId]:
    """Claim, having seen that a look before it says just whether there is something to claim."""
    looked = desk.ask(LookRequest(worker, tuple(workflows), None, 100, (), hashes))
    reply = desk.ask(ClaimRequest(worker, tuple(workflows), limit, hashes))
    assert isinstance(reply, ClaimReply)
    assert isinstance(looked, LookReply)
    assert looked.claimable == bool(reply.runs), "a look that disagrees with the claim makes a dispatcher spin"
    return [run.run_id for run in reply.runs]


def take(desk: Desk, worker: WorkerId, *hashes: str) -> ClaimedRun:
    """Claim the only run there is."""
    reply = desk.ask(ClaimRequest(worker, ORDER, 100, hashes))
    assert isinstance(reply, ClaimReply)
    [run] = reply.runs
    return run


def idle(desk: Desk, worker: WorkerId, version_hash: str = OLD) -> RunId:
    """Start a run that has begun and waits for mail, owned by nobody."""
    desk.make_run(version_hash=version_hash)
    run = desk.began(worker, take(desk, worker, version_hash))
    assert desk.release(worker, run) == {run.run_id}
    return run.run_id


def test_a_mark_is_read_as_it_was_written() -> None:
    for code in (("order", 1, "c0ffee"), ("Größe @ 7 #x", 12, "0")):
        assert read_mark(code_mark(*code)) == code
    assert [read_mark(mark) for mark in (*WITHDRAWN, "c0ffee", "c0ffee x order", "c0ffee 1 ")] == [None] * 4


def test_side_by_side_each_takes_the_runs_of_its_own_code(desk: Desk) -> None:
    old, new = deploy(desk, OLD), deploy(desk, NEW)
    olds = [desk.make_run(version_hash=OLD) for _ in range(3)]
    news = [desk.make_run(version_hash=NEW) for _ in range(3)]
    assert sorted(claim(desk, new, NEW)) == sorted(news)
    assert claim(desk, new, NEW) == []
    assert sorted(claim(desk, old, OLD)) == sorted(olds)


def test_mail_goes_to_those_who_have_the_runs_code_as_well(desk: Desk) -> None:
    old, new = deploy(desk, OLD), deploy(desk, NEW)
    run_id = idle(desk, old)
    desk.signal(run_id)
    assert claim(desk, new, NEW) == []
    assert claim(desk, old, OLD) == [run_id]


@pytest.mark.parametrize("how", ["dead", "reaped", "gone", "withdrawn"])
def test_what_the_last_with_a_runs_code_leaves_is_taken_by_other_code(desk: Desk, how: str) -> None:
    first, last, new = deploy(desk, OLD), deploy(desk, OLD), deploy(desk, NEW)
    mailed, due = idle(desk, first), desk.make_run(version_hash=OLD)
    desk.signal(mailed)
    desk.journal.workers.deregister(first)
    assert claim(desk, new, NEW) == []
    match how:
        case "dead":
            desk.kill(last)
        case "reaped":
            desk.bury(last)
        case "gone":
            desk.journal.workers.deregister(last)
        case _:
            desk.journal.workers.withdraw(last)
    assert set(claim(desk, new, NEW)) == {due, mailed}


def test_a_dispatcher_that_has_withdrawn_is_alive_and_still_listed(desk: Desk) -> None:
    worker = deploy(desk, OLD)
    desk.journal.workers.withdraw(worker)
    desk.journal.workers.withdraw(new_worker_id())
    [record] = desk.journal.workers.list_workers()
    assert (record.alive, record.turns, record.version_hashes) == (True, True, WITHDRAWN)


def test_workers_say_which_code_they_have_loaded(desk: Desk, worker: WorkerId) -> None:
    deployed = deploy(desk, OLD)
    marks = {record.id: record.version_hashes for record in desk.journal.workers.list_workers()}
    assert marks == {worker: (), deployed: ("hash-1 1 order",)}


def test_the_very_code_of_another_version_or_workflow_reserves_nothing(desk: Desk) -> None:
    deploy(desk, OLD, version=2)
    deploy(desk, OLD, workflow="other")
    new = deploy(desk, NEW)
    run_id = desk.make_run(version_hash=OLD)
    assert claim(desk, new, NEW) == [run_id]


def test_workers_that_turn_nothing_reserve_nothing(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run(version_hash=OLD)
    assert claim(desk, deploy(desk, NEW), NEW) == [run_id]


def test_runs_of_other_code_are_left_to_a_release_that_does_not_say_what_it_has(desk: Desk) -> None:
    """It may have it; and what it adopts or sets aside wrongly is back with the next claim of the very code."""
    before, new = deploy(desk, None), deploy(desk, NEW)
    foreign, own = desk.make_run(version_hash=OLD), desk.make_run(version_hash=NEW)
    assert claim(desk, new, NEW) == [own]
    taken = take(desk, before, OLD)
    assert taken.run_id == foreign
    desk.release(before, taken)
    assert claim(desk, new, NEW) == []
    desk.kill(before)
    assert claim(desk, new, NEW) == [foreign]


def test_a_release_that_does_not_say_what_it_has_reserves_only_its_workflows(desk: Desk) -> None:
    deploy(desk, None, workflow="other")
    run_id = desk.make_run(version_hash=OLD)
    assert claim(desk, deploy(desk, NEW), NEW) == [run_id]


def test_of_several_versions_each_has_its_own_hash(desk: Desk) -> None:
    deploy(desk, "old-1", version=1)
    worker = deploy(desk, "new-1", version=1)
    held, own = desk.make_run(version_hash="old-1"), desk.make_run(version=2, version_hash="b")
    orphan, unknown = desk.make_run(version=2, version_hash="c"), desk.make_run(version=3, version_hash="b")
    taken = claim(desk, worker, "new-1", "b", workflows=(("order", 1), ("order", 2)))
    assert sorted(taken) == sorted([own, orphan])
    assert {desk.run(run_id).lease_token for run_id in (held, unknown)} == {0}


def test_a_rollback_finds_its_runs_untouched(desk: Desk) -> None:
    """The old code is back before the new one has adopted anything."""
    new = deploy(desk, NEW)
    run_id = desk.make_run(version_hash=OLD)
    old = deploy(desk, OLD)
    assert claim(desk, new, NEW) == []
    assert claim(desk, old, OLD) == [run_id]


def test_an_adopted_run_belongs_to_those_who_have_adopted_it(desk: Desk) -> None:
    one, other = deploy(desk, NEW), deploy(desk, "hash-3")
    desk.make_run(version_hash=OLD)
    run = take(desk, one, NEW)
    desk.write(one, run, event(EventType.VERSION_ADOPTED, name=NEW), adopted_hash=NEW)
    desk.release(one, run)
    assert desk.run(run.run_id).version_hash == NEW
    assert claim(desk, other, "hash-3") == []
    assert claim(desk, one, NEW) == [run.run_id]


def test_many_runs_of_code_that_others_have_do_not_starve_ones_own(desk: Desk) -> None:
    deploy(desk, OLD)
    new = deploy(desk, NEW)
    for _ in range(20):
        desk.signal(desk.make_run(version_hash=OLD))
    own = desk.make_run(version_hash=NEW)
    assert claim(desk, new, NEW, limit=1) == [own]


def test_own_runs_and_orphans_are_taken_in_the_order_in_which_they_came_due(desk: Desk, worker: WorkerId) -> None:
    new = deploy(desk, NEW)
    made = [desk.make_run(version_hash=version_hash) for version_hash in (OLD, NEW, OLD, NEW)]
    assert [claim(desk, new, NEW, limit=1) for _ in made] == [[run_id] for run_id in made]


# ------------------------------------------------------------------ stuck


Aging = Callable[[timedelta], None]


@pytest.fixture
def earlier(desk: Desk, request: pytest.FixtureRequest) -> Aging:
    """Return what makes everything stuck, and every start of a dispatcher, so much longer ago."""
    if isinstance(desk.journal, MemoryJournal):
        store = desk.journal._store

        def in_memory(span: timedelta) -> None:
            for run in store.runs.values():
                if run.stuck_since is not None:
                    run.stuck_since -= micros(span)
            for row in store.workers.values():
                row.started_at -= micros(span)

        return in_memory
    url = request.getfixturevalue("database_url")

    def in_postgres(span: timedelta) -> None:
        with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("update continuum_runs set stuck_since = stuck_since - %s", (span,))
            cursor.execute("update continuum_workers set started_at = started_at - %s", (span,))

    return in_postgres


def stick(
    desk: Desk, worker: WorkerId, run: ClaimedRun, *, backoff: timedelta = MINUTE, grants: int = 0
) -> tuple[timedelta, timedelta]:
    """Set the run aside; return how long for, and for how long it has been stuck."""
    before = desk.now()
    desk.ask(StickRequest(worker, grant_of(run), "drift", backoff, grants, HOUR))
    row = desk.run(run.run_id)
    assert row.wake_at is not None
    assert row.stuck_since is not None
    assert row.state == RunState.STUCK
    return row.wake_at - before, before - row.stuck_since


def close_to(length: timedelta, wanted: timedelta) -> bool:
    return abs(length - wanted) < timedelta(seconds=20)


def again(desk: Desk, worker: WorkerId) -> ClaimedRun:
    """Claim the stuck run once more, whatever is left of its back-off."""
    assert desk.journal.workers.revive(ORDER) == 1
    return take(desk, worker, OLD)


def test_the_backoff_of_a_run_grows_with_the_time_for_which_it_has_been_stuck(
    desk: Desk, worker: WorkerId, earlier: Aging
) -> None:
    run = desk.fresh(worker)
    lengths = []
    for _ in range(4):
        lengths.append(stick(desk, worker, run)[0])
        earlier(timedelta(minutes=25))
        run = again(desk, worker)
    wanted = [MINUTE, timedelta(minutes=25), timedelta(minutes=50), HOUR]
    assert all(map(close_to, lengths, wanted)), lengths


def test_it_does_not_grow_if_nobody_asks_for_it(desk: Desk, worker: WorkerId, earlier: Aging) -> None:
    run = desk.fresh(worker)
    desk.stick(worker, run, backoff=HOUR)
    earlier(timedelta(hours=5))
    before = desk.now()
    desk.stick(worker, again(desk, worker), backoff=MINUTE)
    wake_at = desk.run(run.run_id).wake_at
    assert wake_at is not None
    assert close_to(wake_at - before, MINUTE)


def test_a_dispatcher_that_starts_makes_it_short_again(desk: Desk, earlier: Aging) -> None:
    """Until all of the old ones are gone, one of those may be whom the revived run falls to."""
    worker = deploy(desk, OLD)
    desk.make_run(version_hash=OLD)
    stick(desk, worker, take(desk, worker, OLD))
    earlier(timedelta(minutes=30))
    deploy(desk, NEW, workflow="other")
    length, stuck = stick(desk, worker, again(desk, worker))
    assert close_to(length, timedelta(minutes=30))
    started = deploy(desk, NEW)
    length, stuck = stick(desk, worker, again(desk, worker))
    assert close_to(length, MINUTE)
    assert close_to(stuck, timedelta(minutes=30))
    desk.kill(started)
    length, _ = stick(desk, worker, again(desk, worker))
    assert close_to(length, timedelta(minutes=30))


def test_progress_ends_it_and_the_next_time_begins_anew(desk: Desk, worker: WorkerId, earlier: Aging) -> None:
    run = desk.fresh(worker)
    stick(desk, worker, run)
    earlier(HOUR)
    run = desk.write(worker, again(desk, worker), event(EventType.RUN_BEGAN))
    assert desk.run(run.run_id).stuck_since is None
    length, stuck = stick(desk, worker, run)
    assert close_to(length, MINUTE)
    assert close_to(stuck, NOW)


def test_a_terminated_run_is_not_stuck_any_more(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    stick(desk, worker, run)
    desk.journal.runs.terminate(run.run_id, namespace=None, reason="enough")
    assert desk.run(run.run_id).stuck_since is None


def test_stuck_runs_are_revived_by_workflow_and_version_the_longest_stuck_first(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.fresh(worker) for _ in range(3)]
    other = desk.fresh(worker, version=2)
    for run in (*runs, other):
        stick(desk, worker, run)
    assert claim(desk, worker, OLD) == []
    assert desk.journal.workers.revive([("order", 1), ("nothing", 1)]) == 3
    wakes = [desk.run(run.run_id).wake_at for run in runs]
    assert wakes == sorted(filter(None, wakes))
    assert wakes[-1] is not None
    assert wakes[-1] - desk.now() < timedelta(seconds=1)
    left = desk.run(other.run_id).wake_at
    assert left is not None
    assert left - desk.now() > MINUTE / 2
    assert {desk.run(run.run_id).state for run in runs} == {RunState.STUCK}


def test_reviving_never_makes_a_run_wait_longer(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    desk.stick(worker, run, backoff=DEAD)
    before = desk.run(run.run_id).wake_at
    assert desk.journal.workers.revive(ORDER) == 0
    assert desk.run(run.run_id).wake_at == before


def test_runs_that_took_dispatchers_down_are_not_revived(desk: Desk, worker: WorkerId) -> None:
    stick(desk, worker, desk.fresh(worker), grants=4)
    assert desk.journal.workers.revive(ORDER) == 0
    assert claim(desk, worker, OLD) == []


def test_a_timer_of_a_run_that_is_well_is_not_touched_by_a_revival(desk: Desk, worker: WorkerId) -> None:
    run = desk.idle(worker, wake_at=desk.now_us() + 3_600_000_000)
    assert desk.journal.workers.revive(ORDER) == 0
    assert desk.journal.workers.revive([]) == 0
    assert claim(desk, worker, OLD) == []
    assert desk.run(run.run_id).state == RunState.SUSPENDED


def test_a_stuck_run_that_somebody_has_or_has_locked_is_left_alone(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    stick(desk, worker, run)
    with desk.locked(run.run_id):
        assert desk.journal.workers.revive(ORDER) == 0
    again(desk, worker)
    assert desk.journal.workers.revive(ORDER) == 0


# ------------------------------------------------------------------ the record


def record(desk: Desk, version_hash: str, *, workflow: str = "order", version: int = 1) -> None:
    desk.journal.workers.record_versions([WorkflowVersion(workflow, version, version_hash, "code")])


def listed(desk: Desk) -> list[tuple[str, int, str, bool, int, int]]:
    return [
        (one.workflow, one.version, one.hash, one.first_seen_at is not None, one.open_runs, one.stuck_runs)
        for one in desk.journal.workers.list_versions()
    ]


def test_versions_are_listed_with_the_open_runs_that_are_pinned_to_them(desk: Desk, worker: WorkerId) -> None:
    assert listed(desk) == []
    before = desk.now_us()
    for version_hash in ("unused", OLD):
        record(desk, version_hash)
    record(desk, "b", workflow="another", version=2)
    stick(desk, worker, desk.fresh(worker))
    desk.idle(worker)
    desk.end(worker, desk.fresh(worker))
    desk.make_run(version=3, version_hash="never seen")
    assert listed(desk) == [
        ("another", 2, "b", True, 0, 0),
        ("order", 1, "unused", True, 0, 0),
        ("order", 1, OLD, True, 2, 1),
        ("order", 3, "never seen", False, 1, 0),
    ]
    seen = desk.journal.workers.list_versions()[0].first_seen_at
    assert seen is not None
    assert before <= seen <= desk.now_us()


def test_one_hash_under_two_versions_is_listed_under_both_that_runs_need(desk: Desk) -> None:
    record(desk, "same")
    for version in (1, 2):
        desk.make_run(version=version, version_hash="same")
    assert listed(desk) == [("order", 1, "same", True, 1, 0), ("order", 2, "same", True, 1, 0)]
    assert desk.journal.workers.retire_versions([("order", "same")]) == []


def test_records_that_a_run_or_a_worker_needs_are_not_retired(desk: Desk, worker: WorkerId) -> None:
    for version_hash in (OLD, "stuck", "loaded", "expired", "ended", "left"):
        record(desk, version_hash)
    desk.idle(worker)
    stick(desk, worker, desk.fresh(worker, version_hash="stuck"))
    desk.end(worker, desk.fresh(worker, version_hash="ended"))
    deploy(desk, "loaded")
    desk.kill(deploy(desk, "expired"))  # it may come back, until it is reaped
    asked = [("order", one) for one in (OLD, "stuck", "loaded", "expired", "ended", "unknown")]
    assert desk.journal.workers.retire_versions(asked) == [("order", "ended")]
    assert desk.journal.workers.retire_versions(asked) == []
    assert desk.journal.workers.retire_versions([]) == []
    assert [desk.journal.workers.source_of("order", one) for one in ("ended", "left", OLD)] == [None, "code", "code"]
    record(desk, "ended")
    assert desk.journal.workers.source_of("order", "ended") == "code"


def test_the_retention_of_code_is_what_it_was_last_loaded_with(desk: Desk) -> None:
    """It is no part of the hash. Whoever terminates a run from outside has none of its code."""

    def load(*retentions: int | None) -> None:
        desk.journal.workers.record_versions(
            [WorkflowVersion("order", number, OLD, "code", kept) for number, kept in enumerate(retentions, 1)]
        )

    for retentions, kept in (
        ((None,), None),
        ((9_000_000,), 9),
        ((9_000_000, 5_000_000), 5),
        ((5_000_000, None), None),
    ):
        load(*retentions)
        run_id = desk.make_run(version_hash=OLD)
        desk.journal.runs.terminate(run_id, namespace=None, reason="enough")
        row = desk.run(run_id)
        assert row.completed_at is not None
        length = None if row.retention_until is None else (row.retention_until - row.completed_at).total_seconds()
        assert length == (None if kept is None else pytest.approx(kept, abs=0.1))


def test_nothing_is_retired_of_workflows_of_a_release_that_does_not_say_what_it_has(desk: Desk) -> None:
    for workflow in ("order", "other"):
        record(desk, OLD, workflow=workflow)
    before = deploy(desk, None)
    asked = [("order", OLD), ("other", OLD)]
    assert desk.journal.workers.retire_versions(asked) == [("other", OLD)]
    desk.journal.workers.deregister(before)
    assert desk.journal.workers.retire_versions(asked) == [("order", OLD)]
