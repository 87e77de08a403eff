"""Claiming runs: those that are due or have mail, of loaded code, by a living worker; disjoint; nothing is cleared."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from continuum.journal.requests import ClaimReply, ClaimRequest
from continuum.model.events import EventType
from continuum.model.ids import WorkerId, new_worker_id
from continuum.model.runs import RunState
from tests.support.journals import DEAD, HOUR_US, NOW, Desk, event, grant_of


def test_a_claim_takes_a_new_run_with_its_history_and_mail(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run(namespace="eu", version=3, version_hash="h3")
    desk.signal(run_id, "first")
    desk.signal(run_id, "second")
    [run] = desk.claim(worker, workflows=[("order", 3)])
    row = desk.run(run_id)
    assert (run.run_id, run.chain_id, run.namespace, run.workflow) == (run_id, run_id, "eu", "order")
    assert (run.version, run.version_hash) == (3, "h3")
    assert (run.token, run.last_seq, run.grants) == (row.lease_token, 1, 1)
    assert row.lease_owner == worker
    assert run.events == desk.journal.runs.history(run_id)
    assert [message.name for message in run.mail] == ["first", "second"]


def test_a_claim_loads_the_whole_history_in_order(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    values = [event(EventType.VALUE_RECORDED, command=n, payload=str(n)) for n in range(50)]
    desk.release(worker, desk.write(worker, run, *values))
    again = desk.claim_one(worker)
    assert [item.seq for item in again.events] == list(range(1, 52))
    assert (again.last_seq, again.events) == (51, desk.journal.runs.history(run.run_id))


def test_a_claim_raises_the_token_and_counts_grants(desk: Desk, worker: WorkerId) -> None:
    desk.make_run()
    tokens, grants = [], []
    for _ in range(3):
        run = desk.claim_one(worker)
        tokens.append(run.token)
        grants.append(run.grants)
        desk.release(worker, run)
    assert grants == [1, 2, 3]
    assert tokens == sorted(set(tokens))


def test_progress_begins_the_count_of_grants_anew(desk: Desk, worker: WorkerId) -> None:
    desk.make_run()
    for _ in range(3):
        desk.release(worker, desk.claim_one(worker))
    run = desk.write(worker, desk.claim_one(worker), event(EventType.RUN_BEGAN))
    assert desk.run(run.run_id).grants == 0
    desk.release(worker, run)
    assert desk.claim_one(worker).grants == 1


def test_a_claim_leaves_wake_at_alone(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    before = desk.run(run_id).wake_at
    run = desk.claim_one(worker)
    assert before is not None
    assert desk.run(run_id).wake_at == before
    assert run.wake_at == round(before.timestamp() * 1_000_000)


def test_a_run_whose_claimant_did_nothing_is_as_claimable_as_before(desk: Desk, worker: WorkerId) -> None:
    desk.make_run()
    desk.release(worker, desk.claim_one(worker))
    assert desk.claim_one(worker).events[-1].type == EventType.RUN_STARTED


def test_a_run_that_waits_for_a_later_time_is_not_claimed(desk: Desk, worker: WorkerId) -> None:
    desk.idle(worker, wake_at=desk.now_us() + HOUR_US)
    assert desk.claim(worker) == []


def test_a_run_whose_time_has_come_is_claimed(desk: Desk, worker: WorkerId) -> None:
    wake_at = desk.now_us() - 1
    run = desk.idle(worker, wake_at=wake_at)
    again = desk.claim_one(worker)
    assert (again.run_id, again.wake_at) == (run.run_id, wake_at)


def test_a_run_that_waits_for_mail_alone_is_claimed_when_there_is_some(desk: Desk, worker: WorkerId) -> None:
    run = desk.idle(worker)
    assert desk.claim(worker) == []
    desk.signal(run.run_id)
    again = desk.claim_one(worker)
    assert (again.run_id, again.wake_at, len(again.mail)) == (run.run_id, None, 1)


def test_a_cancel_request_alone_makes_a_run_claimable(desk: Desk, worker: WorkerId) -> None:
    run = desk.idle(worker, wake_at=desk.now_us() + HOUR_US)
    desk.cancel(run.run_id)
    [message] = desk.claim_one(worker).mail
    assert message.kind == EventType.CANCEL_REQUESTED


def test_a_claim_consumes_no_mail(desk: Desk, worker: WorkerId) -> None:
    run = desk.idle(worker)
    desk.signal(run.run_id)
    for _ in range(3):
        again = desk.claim_one(worker)
        assert len(again.mail) == 1
        desk.release(worker, again)


def test_an_owned_run_is_not_claimed(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.fresh(worker)
    assert desk.claim(other) == []
    assert desk.claim(worker) == []


def test_an_owned_run_with_mail_is_not_claimed(desk: Desk, worker: WorkerId, other: WorkerId) -> None:
    desk.signal(desk.fresh(worker).run_id)
    assert desk.claim(other) == []


def test_runs_of_code_that_is_not_loaded_are_left_alone(desk: Desk, worker: WorkerId) -> None:
    unknown = [desk.make_run(workflow="unknown"), desk.make_run(version=2)]
    for run_id in unknown:
        desk.signal(run_id)
    known = desk.make_run()
    assert [run.run_id for run in desk.claim(worker, workflows=[("order", 1), ("other", 2)])] == [known]
    assert {desk.run(run_id).lease_token for run_id in unknown} == {0}
    assert [run.run_id for run in desk.claim(worker, workflows=[("order", 2)])] == [unknown[1]]


def test_many_runs_of_unknown_code_do_not_starve_a_known_one(desk: Desk, worker: WorkerId) -> None:
    for _ in range(20):
        desk.signal(desk.make_run(workflow="unknown"))
    known = desk.make_run()
    assert [run.run_id for run in desk.claim(worker, limit=1)] == [known]


def test_without_loaded_code_nothing_is_claimed(desk: Desk, worker: WorkerId) -> None:
    desk.make_run()
    assert desk.claim(worker, workflows=[]) == []


@pytest.mark.parametrize("state", [RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED])
def test_an_ended_run_is_never_claimed_not_even_for_its_mail(desk: Desk, worker: WorkerId, state: RunState) -> None:
    run = desk.fresh(worker)
    desk.signal(run.run_id)
    desk.write(worker, run, event(EventType.RUN_COMPLETED), state=state, woke=True)
    assert desk.claim(worker) == []


def test_a_claim_takes_at_most_its_limit(desk: Desk, worker: WorkerId) -> None:
    made = {desk.make_run() for _ in range(5)}
    first = {run.run_id for run in desk.claim(worker, limit=3)}
    second = {run.run_id for run in desk.claim(worker, limit=3)}
    assert (len(first), len(second)) == (3, 2)
    assert first | second == made


def test_a_claim_of_runs_with_mail_takes_at_most_its_limit(desk: Desk, worker: WorkerId) -> None:
    runs = [desk.idle(worker) for _ in range(5)]
    for run in runs:
        desk.signal(run.run_id)
        desk.signal(run.run_id)
    claimed = [run.run_id for _ in range(3) for run in desk.claim(worker, limit=2)]
    assert sorted(claimed) == sorted(run.run_id for run in runs)


def test_the_longest_due_run_is_claimed_first(desk: Desk, worker: WorkerId) -> None:
    now = desk.now_us()
    late = [desk.parked(worker, wake_at=now - minute * 60_000_000) for minute in (1, 3, 2)]
    desk.release(worker, *late)
    claimed = [desk.claim(worker, limit=1)[0].run_id for _ in late]
    assert claimed == [late[1].run_id, late[2].run_id, late[0].run_id]


def test_a_run_is_claimed_once_though_it_is_due_and_has_mail(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    desk.signal(run_id)
    desk.signal(run_id)
    assert [run.run_id for run in desk.claim(worker)] == [run_id]


def test_a_locked_run_is_skipped_and_the_others_are_claimed(desk: Desk, worker: WorkerId) -> None:
    first, second = desk.make_run(), desk.make_run()
    with desk.locked(first):
        assert [run.run_id for run in desk.claim(worker)] == [second]
    assert [run.run_id for run in desk.claim(worker)] == [first]


def test_two_claimers_at_once_share_no_run(desk: Desk) -> None:
    made = {desk.make_run() for _ in range(40)}
    workers = [desk.make_worker() for _ in range(4)]
    together = Barrier(4)

    def claim(worker: WorkerId) -> list[str]:
        line, mine = desk.journal.open_line(), []
        together.wait()
        for _ in range(40):
            line.send(ClaimRequest(worker, (("order", 1),), 3))
            reply = line.wait(20)
            assert isinstance(reply, ClaimReply)
            mine += [run.run_id for run in reply.runs]
        line.close()
        return mine

    with ThreadPoolExecutor(4) as pool:
        claimed = [run_id for mine in pool.map(claim, workers) for run_id in mine]
    # Whoever skipped a row that was locked just then finds it the next time.
    claimed += [run.run_id for run in desk.claim(workers[0])]
    assert sorted(claimed) == sorted(made)


# ------------------------------------------------------------------ only the living


def test_a_worker_without_a_row_claims_nothing(desk: Desk) -> None:
    run_id = desk.make_run()
    assert desk.claim(new_worker_id()) == []
    assert desk.run(run_id).lease_token == 0


def test_a_worker_whose_lease_has_expired_claims_nothing(desk: Desk, worker: WorkerId) -> None:
    desk.make_run()
    desk.kill(worker)
    assert desk.claim(worker) == []
    assert desk.journal.workers.beat(worker, NOW - DEAD)
    assert len(desk.claim(worker)) == 1


def test_a_dead_worker_claims_nothing(desk: Desk, worker: WorkerId) -> None:
    desk.make_run()
    desk.bury(worker)
    assert desk.claim(worker) == []


def test_a_claim_that_races_the_reaper_leaves_no_run_with_a_dead_owner(desk: Desk) -> None:
    for _ in range(15):
        run_id, worker = desk.make_run(), desk.make_worker()
        desk.kill(worker)
        together = Barrier(2)

        def claim(worker: WorkerId = worker, together: Barrier = together) -> None:
            line = desk.journal.open_line()
            line.send(ClaimRequest(new_worker_id(), (), 1))
            line.wait(20)
            together.wait()
            desk.journal.workers.beat(worker, NOW - DEAD)  # a late heartbeat revives it, or comes too late
            line.send(ClaimRequest(worker, (("order", 1),), 1))
            assert line.wait(20) is not None
            line.close()

        def reap(together: Barrier = together) -> None:
            together.wait()
            desk.journal.workers.reap()

        with ThreadPoolExecutor(2) as pool:
            for racer in (pool.submit(claim), pool.submit(reap)):
                racer.result()
        living = {record.id for record in desk.journal.workers.list_workers()}
        assert desk.run(run_id).lease_owner in living | {None}
        cleaner = desk.make_worker()
        if worker in living:
            desk.bury(worker)
        claimed = desk.claim_one(cleaner)
        desk.end(cleaner, claimed)
        assert grant_of(claimed).token == claimed.token
