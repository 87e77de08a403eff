"""What a call's compensation is: bound at once, refused whole, and never lost or run twice in any program."""

import pytest

from continuum import Retry, activity
from continuum.errors import CodecError, CompensationError, DeclarationError
from continuum.model.events import EventType
from continuum.replay.effects.saga import compensate_all, saga
from continuum.replay.effects.signal import wait_until
from tests.replay.lab import Lab, act, started
from tests.support.undoing import Undoes, undone

undo_a = Undoes("undo_a")


@activity(name="undoing.refund", queue="refunds", priority=7, retry=9, idempotency_key=lambda order, n=1: f"r:{order}")
def refund(order: str, n: int = 1) -> str:
    return order


@activity(name="undoing.charge", queue="charges", retry=Retry(max_attempts=2))
def charge(order: str) -> str:
    return order


unkeyed = refund.options(idempotency_key=None)


# -- as declared


def test_a_compensation_has_the_policy_and_key_of_its_own_activity():
    async def flow():
        async with saga() as undo:
            await charge("o1").compensate(refund, "o1", n=3)
            undo.add(refund.options(queue="urgent", executor="celery", idempotency_key=None), "o2")
            raise ValueError

    lab = Lab(flow).begin()
    urgent = lab.complete(0, "paid").orders[0]
    own = lab.complete(1, "back").orders[0]
    assert (urgent.command, urgent.activity, urgent.arguments) == (1, "undoing.refund", '["o2"]')
    assert (urgent.policy.queue, urgent.policy.executor, urgent.idempotency_key) == ("urgent", "celery", None)
    assert (own.command, own.activity) == (2, "undoing.refund")
    assert refund.decode_arguments(own.arguments) == (("o1", 3), {})
    assert (own.policy.queue, own.policy.priority, own.policy.retry.max_attempts) == ("refunds", 7, 9)
    assert own.policy_text == refund.policy.encode()
    assert own.idempotency_key == "r:o1"
    lab.complete(2, "back")
    lab.replays()


def test_arguments_are_taken_down_at_once():
    async def flow():
        items = ["a"]
        async with saga():
            call = act("a").compensate(undo_a, items)
            items.append("b")
            await call
            items.clear()
            raise ValueError

    lab = Lab(flow).run()
    assert undone(lab) == [(1, "undo_a", 0, [["a"]])]
    lab.replays()


def plain(order):
    return order


@activity(name="undoing.keyed", idempotency_key=lambda order: "")
def keyed(order: str) -> None: ...


BAD = {
    "a function": (lambda call: call.compensate(plain, "o"), TypeError, "declare the function with @activity"),
    "nothing": (lambda call: call.compensate(None), TypeError, "declare the function with @activity"),
    "a call": (lambda call: call.compensate(refund("o")), TypeError, "not as a call of it"),
    "too few": (lambda call: call.compensate(refund), TypeError, "order"),
    "unknown": (lambda call: call.compensate(refund, "o", m=1), TypeError, "m"),
    "unencodable": (lambda call: call.compensate(refund, object()), CodecError, ""),
    "bad key": (lambda call: call.compensate(keyed, "o"), DeclarationError, "idempotency key"),
    "too large": (lambda call: call.compensate(unkeyed, "x" * 970), CodecError, "arguments of compensation"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_compensation_withdraws_the_call(what):
    attempt, kind, words = BAD[what]

    async def flow():
        try:
            attempt(charge("o"))
        except (TypeError, CodecError, DeclarationError) as error:
            said = type(error).__name__, str(error)
        await compensate_all()
        return said

    lab = Lab(flow, history=[started(max_payload=1_000)]).begin()
    assert lab.ended and lab.decisions[-1].orders == [] and lab.decisions[-1].cancelled == []
    assert {e.command for e in lab.history if e.type == EventType.ACTIVITY_CANCELLED} == {
        e.command for e in lab.history if e.type == EventType.ACTIVITY_SCHEDULED
    }
    name, message = lab.result
    assert name == kind.__name__
    assert not words or any(word in message for word in words.split("|")), message
    lab.replays()


def test_a_compensation_that_was_taken_down_is_never_too_large():
    async def flow():
        async with saga():
            await charge("o").compensate(unkeyed, "x" * 930)
            raise ValueError

    lab = Lab(flow, history=[started(max_payload=1_000)]).begin()
    lab.complete(0, "o")
    assert len(undone(lab)) == 1
    lab.close()


def test_a_call_has_one_compensation():
    async def flow():
        call = act("a").compensate(undo_a, 1)
        try:
            call.compensate(undo_a, 2)
        except CompensationError as error:
            said = str(error)
        await call
        await compensate_all()
        return said

    lab = Lab(flow).run()
    assert lab.result.endswith("has a compensation already; undo.add() of a saga takes more of them.")
    assert undone(lab) == [(1, "undo_a", 0, [1])]
    lab.replays()


def test_a_call_that_has_its_outcome_can_get_one():
    async def flow():
        async with saga():
            good, bad = act("good"), act("bad")
            await good
            bad.compensate(undo_a, "bad")
            await act("later").compensate(undo_a, "later")
            good.compensate(undo_a, "good")
            raise ValueError

    lab = Lab(flow).begin()
    lab.fail(1)
    lab.complete(0)
    lab.run()
    assert [arguments for _, _, _, arguments in undone(lab)] == [["good"], ["later"]]
    # Nobody has looked at why the other one failed: giving it a compensation does not count as looking.
    assert any("bad" in line.message for line in lab.logs)
    lab.replays()


def test_a_call_that_was_cancelled_cannot():
    async def flow():
        call = act("a")
        call.cancel()
        try:
            call.compensate(undo_a)
        except CompensationError as error:
            return str(error), error.activity

    lab = Lab(flow).run()
    assert "cancelled before it had a compensation" in lab.result[0] and lab.result[1] == "a"
    lab.replays()


def test_a_predicate_gives_no_compensations():
    async def flow():
        call = act("a")
        await wait_until(lambda: call.compensate(undo_a))

    lab = Lab(flow).begin()
    assert lab.failure.type_name == "continuum.errors.ReplayError"
    lab.replays()


def test_undoing_in_a_generator_that_is_left_early_happens_in_the_background():
    async def flow():
        async def steps():
            async with saga():
                for i in range(3):
                    yield await act("a").compensate(undo_a, i)

        async for _ in steps():
            break
        await act("b")
        return "on"

    lab = Lab(flow).begin()
    lab.complete(0)
    assert undone(lab)[0][1:] == ("undo_a", 0, [0])
    lab.run()
    assert lab.result == "on"
    lab.replays()
