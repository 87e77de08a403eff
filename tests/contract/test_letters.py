"""Letters: what a run sends to other chains in its commit, and who does not get any."""

import pytest

from continuum.errors import JournalError
from continuum.model.decisions import Letter
from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.runs import ParentClose, RunState
from tests.support.families import (
    bear,
    cancel_letter,
    child_of,
    claim_children,
    continued,
    end_child,
    family,
    inbox,
    signal_letter,
    terminate_letter,
    told,
)
from tests.support.journals import Desk, commit_of, event, grant_of

BEGAN = event(EventType.RUN_BEGAN)


def test_a_signal_from_a_run_is_a_signal(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.write(worker, run, letters=[signal_letter(child.chain_id, "go", '{"b": 1,  "a": 2}')])
    [message] = inbox(desk, worker, child)
    assert (message.chain_id, message.run_id, message.kind) == (child.chain_id, None, EventType.SIGNAL_RECEIVED)
    assert (message.command, message.name, message.payload) == (None, "go", '{"b": 1,  "a": 2}')


@pytest.mark.parametrize("kind", ["cancel", "terminate"])
def test_a_cancel_request_and_the_order_to_end_are_letters_too(desk: Desk, worker: WorkerId, kind: str) -> None:
    run, [child] = family(desk, worker)
    letter = cancel_letter(child.chain_id) if kind == "cancel" else terminate_letter(child.chain_id)
    desk.write(worker, run, letters=[letter])
    [message] = inbox(desk, worker, child)
    assert (message.kind, message.run_id, message.command) == (letter.kind, None, None)
    assert (message.name, message.payload) == (None, letter.payload)


def test_letters_to_one_chain_arrive_in_the_order_of_the_decision(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    letters = [signal_letter(child.chain_id, payload=str(number)) for number in range(100)]
    desk.write(worker, run, letters=[*letters, cancel_letter(child.chain_id)])
    messages = inbox(desk, worker, child)
    assert [message.payload for message in messages] == [*(str(number) for number in range(100)), None]
    assert [message.id for message in messages] == sorted(message.id for message in messages)


def test_a_letter_to_a_child_that_the_same_decision_orders_is_delivered(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    orders = [child_of(desk, run, command) for command in range(2)]
    letters = [signal_letter(orders[1].id, "go"), cancel_letter(orders[1].id)]
    bear(desk, worker, run, *orders, letters=letters)
    first, second = claim_children(desk, worker)
    assert first.mail == []
    assert [(message.kind, message.name) for message in second.mail] == [
        ("signal_received", "go"),
        ("cancel_requested", None),
    ]


def test_a_run_that_ends_tells_the_children_it_has_just_ordered(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    ordered = child_of(desk, run)
    desk.end(worker, run, children=[ordered], letters=[cancel_letter(ordered.id)])
    [child] = claim_children(desk, worker)
    assert [message.kind for message in child.mail] == ["cancel_requested"]


@pytest.mark.parametrize("kind", [signal_letter, cancel_letter, terminate_letter])
def test_a_letter_to_a_chain_that_has_ended_is_dropped(desk: Desk, worker: WorkerId, kind: object) -> None:
    assert callable(kind)
    run, [gone, child] = family(desk, worker, ParentClose.CANCEL, ParentClose.CANCEL)
    desk.end(worker, gone)
    desk.write(worker, run, letters=[kind(gone.chain_id), kind(child.chain_id)])
    assert len(inbox(desk, worker, child)) == 1
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_a_letter_reaches_a_chain_whose_first_run_has_continued(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    tip = continued(desk, worker, child)
    desk.write(worker, run, letters=[signal_letter(child.chain_id, "go")])
    assert [(message.name, message.run_id) for message in inbox(desk, worker, tip)] == [("go", None)]


def test_a_letter_to_a_chain_whose_last_run_has_ended_is_dropped(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    end_child(desk, worker, continued(desk, worker, child))
    run = desk.write(worker, run, letters=[signal_letter(child.chain_id)])
    assert told(desk, worker, run) == ["child_completed"]
    assert desk.journal.upkeep.discard_dead_mail() == 0


def test_a_letter_wakes_a_child_that_nobody_holds(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    desk.release(worker, desk.began(worker, child))
    assert claim_children(desk, worker) == []
    desk.write(worker, run, letters=[signal_letter(child.chain_id)])
    [again] = claim_children(desk, worker)
    assert (again.run_id, len(again.mail)) == (child.run_id, 1)


def test_a_letter_does_not_wait_for_a_child_that_somebody_has_locked(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    with desk.locked(child.run_id):
        desk.write(worker, run, letters=[signal_letter(child.chain_id)])
    assert told(desk, worker, child) == ["signal_received"]


def test_a_run_may_write_to_its_own_chain(desk: Desk, worker: WorkerId) -> None:
    run = desk.parked(worker)
    desk.write(worker, run, letters=[cancel_letter(run.chain_id)])
    assert told(desk, worker, run) == ["cancel_requested"]


def test_a_batch_may_mix_runs_that_write_letters_with_others(desk: Desk, worker: WorkerId) -> None:
    _, children = family(desk, worker, *[ParentClose.CANCEL] * 40)
    plain = [desk.fresh(worker) for _ in range(20)]
    commits = [commit_of(one, BEGAN) for one in plain]
    # Each child writes to its neighbour, and all of them to the first.
    for number, child in enumerate(children):
        letters = [
            signal_letter(children[number - 1].chain_id, "next", str(number)),
            signal_letter(children[0].chain_id, "all", str(number)),
        ]
        commits.insert(number * 3 // 2, commit_of(child, BEGAN, letters=letters))
    fenced = children[5]
    [fenced_again] = desk.regrant(worker, grant_of(fenced))
    assert desk.commit(worker, *commits) == {one.run_id for one in (*plain, *children) if one is not fenced}
    for number, child in enumerate(children[1:], 1):
        names = [message.payload for message in inbox(desk, worker, child) if message.name == "next"]
        assert names == ([] if number == 4 else [str((number + 1) % 40)])
    everybody = {message.payload for message in inbox(desk, worker, children[0]) if message.name == "all"}
    assert everybody == {str(number) for number in range(40) if number != 5}
    assert desk.types(fenced_again.run_id) == ["run_started"]


@pytest.mark.parametrize("poison", [{"payload": "{nonsense"}, {"payload": '"a\0b"'}, {"name": "a\0b"}], ids=str)
def test_a_letter_that_no_column_takes_refuses_the_whole_request(
    desk: Desk, worker: WorkerId, poison: dict[str, str]
) -> None:
    run, [child] = family(desk, worker)
    plain = desk.fresh(worker)
    letter = Letter(child.chain_id, EventType.SIGNAL_RECEIVED, **{"name": "go", "payload": "1", **poison})
    with pytest.raises(JournalError):
        desk.commit(worker, commit_of(plain, BEGAN), commit_of(run, letters=[letter]))
    assert desk.types(plain.run_id) == ["run_started"]
    assert told(desk, worker, child) == []
    assert desk.commit(worker, commit_of(plain, BEGAN)) == {plain.run_id}


def test_a_run_may_send_a_thousand_letters(desk: Desk, worker: WorkerId) -> None:
    run, [child] = family(desk, worker)
    sent = [event(EventType.SIGNAL_SENT, command=number, name="go") for number in range(1, 1001)]
    letters = [signal_letter(child.chain_id, payload=str(number)) for number in range(1000)]
    desk.write(worker, run, *sent, letters=letters, state=RunState.SUSPENDED)
    assert [message.payload for message in inbox(desk, worker, child)] == [str(number) for number in range(1000)]
