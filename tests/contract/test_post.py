"""Posting signals and cancel requests: to the tip of a chain, once per delivery id, touching no run row."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from continuum.errors import JournalError, RunNotFound, RunTerminal
from continuum.journal.protocol import PostResult
from continuum.model.events import EventType
from continuum.model.ids import RunId, WorkerId, new_run_id
from continuum.model.messages import NewMessage
from continuum.model.runs import RunState
from tests.support.journals import Desk


def test_a_signal_waits_in_the_inbox_for_the_tip(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    assert desk.signal(run.run_id, "paid", '{"b": 1, "a":2}') is PostResult.DELIVERED
    [message] = desk.mail(worker).messages
    assert (message.chain_id, message.run_id, message.kind) == (run.chain_id, None, EventType.SIGNAL_RECEIVED)
    assert (message.command, message.name, message.payload) == (None, "paid", '{"b": 1, "a":2}')


def test_a_cancel_request_waits_in_the_inbox_for_the_tip(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    assert desk.cancel(run.run_id) is PostResult.DELIVERED
    [message] = desk.mail(worker).messages
    assert (message.kind, message.run_id, message.name) == (EventType.CANCEL_REQUESTED, None, None)


def test_posting_leaves_the_run_row_alone(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker, wake_at=desk.now_us() + 3_600_000_000)
    before = desk.run(run.run_id)
    desk.signal(run.run_id)
    after = desk.run(run.run_id)
    assert (after.wake_at, after.state, after.lease_owner, after.lease_token, after.last_seq) == (
        before.wake_at,
        before.state,
        before.lease_owner,
        before.lease_token,
        before.last_seq,
    )


def test_posting_does_not_wait_for_a_locked_run_row(desk: Desk) -> None:
    run_id = desk.make_run()
    with desk.locked(run_id):
        assert desk.signal(run_id) is PostResult.DELIVERED


def test_a_signal_may_come_before_the_first_turn(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run()
    desk.signal(run_id, "early")
    run = desk.claim_one(worker)
    assert [message.name for message in run.mail] == ["early"]


def test_messages_without_a_delivery_id_are_all_kept(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    assert [desk.signal(run.run_id, "paid", "1") for _ in range(3)] == [PostResult.DELIVERED] * 3
    assert len(desk.mail(worker).messages) == 3


def test_a_delivery_id_is_delivered_once(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    first = desk.signal(run.run_id, "paid", "1", delivery_id="d1")
    second = desk.signal(run.run_id, "paid", "2", delivery_id="d1")
    assert (first, second) == (PostResult.DELIVERED, PostResult.DUPLICATE)
    assert [message.payload for message in desk.mail(worker).messages] == ["1"]


def test_a_delivery_id_stays_used_after_its_message_was_consumed(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    desk.signal(run.run_id, "paid", "1", delivery_id="d1")
    [message] = desk.mail(worker).messages
    desk.write(worker, run, consumed=[message.id])
    assert desk.signal(run.run_id, "paid", "1", delivery_id="d1") is PostResult.DUPLICATE
    assert desk.mail(worker).messages == []


def test_a_delivery_id_belongs_to_a_signal_name(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    results = [desk.signal(run.run_id, name, delivery_id="d1") for name in ("paid", "shipped")]
    assert results == [PostResult.DELIVERED] * 2
    assert len(desk.mail(worker).messages) == 2


def test_a_delivery_id_belongs_to_a_chain(desk: Desk) -> None:
    results = [desk.signal(desk.make_run(), delivery_id="d1") for _ in range(2)]
    assert results == [PostResult.DELIVERED] * 2


def test_cancel_requests_have_delivery_ids_too(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    results = [desk.cancel(run.run_id, delivery_id="d1") for _ in range(2)]
    assert results == [PostResult.DELIVERED, PostResult.DUPLICATE]
    assert len(desk.mail(worker).messages) == 1


def test_of_eight_concurrent_deliveries_under_one_id_exactly_one_arrives(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    together = Barrier(8)

    def deliver(_: int) -> PostResult:
        together.wait()
        return desk.signal(run.run_id, delivery_id="d1")

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(deliver, range(8)))
    assert sorted(results) == [PostResult.DELIVERED] + [PostResult.DUPLICATE] * 7
    assert len(desk.mail(worker).messages) == 1


def test_a_message_to_an_unknown_run_is_refused(desk: Desk) -> None:
    unknown = new_run_id(desk.now_us())
    with pytest.raises(RunNotFound) as caught:
        desk.signal(unknown)
    assert caught.value.run_id == unknown
    with pytest.raises(RunNotFound):
        desk.cancel(unknown, delivery_id="d1")


def ended(desk: Desk, worker: WorkerId) -> RunId:
    return desk.end(worker, desk.fresh(worker)).run_id


def test_a_message_to_an_ended_run_is_refused_and_not_recorded(desk: Desk, worker: WorkerId) -> None:
    run_id = ended(desk, worker)
    for send in (desk.signal, desk.cancel):
        with pytest.raises(RunTerminal) as caught:
            send(run_id)
        assert (caught.value.run_id, caught.value.state) == (run_id, "completed")
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_a_new_delivery_id_for_an_ended_run_is_refused(desk: Desk, worker: WorkerId) -> None:
    run_id = ended(desk, worker)
    for _ in range(2):
        with pytest.raises(RunTerminal):
            desk.signal(run_id, delivery_id="d1")


def test_a_message_to_a_stuck_run_is_accepted(desk: Desk, worker: WorkerId) -> None:
    run = desk.fresh(worker)
    assert desk.stick(worker, run)
    assert desk.signal(run.run_id) is PostResult.DELIVERED
    assert desk.run(run.run_id).state == RunState.STUCK


def test_a_run_of_another_namespace_is_not_found(desk: Desk, worker: WorkerId) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    for send in (desk.signal, desk.cancel):
        with pytest.raises(RunNotFound):
            send(run_id, namespace="tenant-b")
    assert desk.claim_one(worker).mail == []
    assert desk.signal(run_id, namespace="tenant-a") is PostResult.DELIVERED
    assert desk.cancel(run_id, namespace="tenant-a") is PostResult.DELIVERED


def test_a_delivery_id_refused_by_namespace_is_not_used_up(desk: Desk) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    with pytest.raises(RunNotFound):
        desk.signal(run_id, namespace="tenant-b", delivery_id="d1")
    assert desk.signal(run_id, namespace="tenant-a", delivery_id="d1") is PostResult.DELIVERED


@pytest.mark.parametrize("field", ["name", "payload", "delivery_id"])
def test_a_message_with_nul_is_refused_and_nothing_is_written(desk: Desk, worker: WorkerId, field: str) -> None:
    run = desk.parked(worker)
    good = NewMessage(run.run_id, EventType.SIGNAL_RECEIVED, "paid", "1", delivery_id="d1")
    values = {name: getattr(good, name) for name in good.__struct_fields__}
    with pytest.raises(JournalError):
        desk.journal.runs.post(NewMessage(**{**values, field: "a\0b"}))
    assert desk.mail(worker).messages == []
    assert desk.journal.runs.post(good) is PostResult.DELIVERED


def test_a_signal_whose_payload_is_no_json_is_refused_and_its_delivery_id_stays_free(desk: Desk) -> None:
    run_id = desk.make_run()
    with pytest.raises(JournalError):
        desk.signal(run_id, payload="{nonsense", delivery_id="d1")
    assert desk.signal(run_id, delivery_id="d1") is PostResult.DELIVERED


def test_message_ids_rise(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    for number in range(5):
        desk.signal(run.run_id, payload=str(number))
    messages = desk.mail(worker).messages
    assert [message.payload for message in messages] == ["0", "1", "2", "3", "4"]
    assert sorted({message.id for message in messages}) == [message.id for message in messages]
