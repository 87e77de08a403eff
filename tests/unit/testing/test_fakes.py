"""What stands in for activities, and what can be asked about their calls."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest

from continuum import (
    ActivityFailed,
    ActivityTimedOut,
    PermanentError,
    Retry,
    Signal,
    activity,
    current_attempt,
    sleep,
    workflow,
)
from continuum.errors import ConfigError
from continuum.testing import HANG, REAL, FakeError, Harness, fail, outcomes, run, run_async, start, takes

ready = Signal("ready", str)


@dataclass
class Payment:
    amount: int


@activity(retry=Retry(max_attempts=4, backoff="exponential", base=timedelta(seconds=10)), timeout=60)
def charge(order_id: str, amount: int = 1) -> Payment:
    return Payment(amount)


@activity(retry=1, timeout=60, heartbeat_timeout=20)
async def notify(order_id: str) -> str:
    await asyncio.sleep(0)
    return f"told {order_id}"


@activity(transactional=True)
def book(order_id: str, *, connection: Any = None) -> int:
    raise NotImplementedError


@activity(idempotency_key=lambda order_id: f"ship:{order_id}")
def ship(order_id: str) -> str:
    return order_id


@workflow(name="test_fakes.pay_flow")
async def pay_flow(order_id: str) -> int:
    payment = await charge(order_id, 7)
    return payment.amount


@workflow(name="test_fakes.tell_flow")
async def tell_flow(order_id: str) -> str:
    try:
        return await notify(order_id)
    except ActivityTimedOut as error:
        return str(error)
    except ActivityFailed as error:
        return error.type_name


@workflow(name="test_fakes.book_flow")
async def book_flow(order_id: str) -> int:
    return await book(order_id)


@workflow(name="test_fakes.ship_flow")
async def ship_flow(order_id: str) -> list[str]:
    return [await ship(order_id), await ship(order_id)]


@workflow(name="test_fakes.both_flow")
async def both_flow() -> list[str]:
    done = []

    async def one(call: Any) -> None:
        await call
        done.append("notify")

    async def two() -> None:
        await sleep(30)
        done.append("sleep")

    await asyncio.gather(one(notify("o1")), two())
    return done


# ------------------------------------------------------------------ kinds of fakes


def test_without_a_fake_the_activity_runs():
    assert run(pay_flow, "o1") == 7
    assert run(tell_flow, "o1") == "told o1"


async def told_async(order_id: str) -> str:
    await asyncio.sleep(0)
    return f"async {order_id}"


@pytest.mark.parametrize(
    ("fake", "result"),
    [
        ("a value", "a value"),
        (lambda order_id: f"faked {order_id}", "faked o1"),
        (told_async, "async o1"),
        (Mock(return_value="mocked"), "mocked"),
        (MagicMock(return_value="mocked"), "mocked"),
        (AsyncMock(return_value="mocked"), "mocked"),
        (ValueError("no"), "ValueError"),
        (KeyError, "KeyError"),
        (fail(OSError("down")), "OSError"),
        (outcomes("first", "second"), "first"),
        (iter(["one"]), "one"),
        (REAL, "told o1"),
        (notify, "told o1"),
        (takes(timedelta(seconds=5), "late"), "late"),
        (takes(timedelta(seconds=5)), "told o1"),
        (outcomes(takes(timedelta(seconds=1), fail(OSError))), "OSError"),
    ],
)
def test_a_fake_may_be_many_things(fake, result):
    assert run(tell_flow, "o1", activities={notify: fake}) == result


def test_a_def_may_be_faked_by_an_async_def():
    async def paid(order_id: str, amount: int) -> Payment:
        await asyncio.sleep(0)
        return Payment(amount * 2)

    assert run(pay_flow, "o1", activities={charge: paid}) == 14


def test_an_activity_may_be_named():
    @activity(name="test_fakes.named_by_text")
    def named() -> int:
        return 1

    @workflow(name="test_fakes.named_flow")
    async def named_flow() -> int:
        return await named()

    assert run(named_flow, activities={"named_by_text": 3}) == 3
    assert run(named_flow, activities={named.name: 4}) == 4


def test_what_is_no_activity_is_refused():
    with pytest.raises(ConfigError, match="of the activities declared here none has this name"):
        run(pay_flow, "o1", activities={"chrage": Payment(3)})
    with pytest.raises(ConfigError, match="the keys are activities, what @activity made, or their names"):
        run(pay_flow, "o1", activities={len: Payment(3)})


def test_strict_wants_a_fake_for_each():
    with pytest.raises(FakeError, match=r"charge was called with \('o1', 7\) and has no fake: strict=True wants one"):
        run(pay_flow, "o1", strict=True)
    assert run(pay_flow, "o1", strict=True, activities={charge: REAL}) == 7


def test_a_fake_answers_what_the_activity_could():
    with pytest.raises(FakeError, match=r"the fake of .*charge answers .*, which its result .*Payment.* cannot be"):
        run(pay_flow, "o1", activities={charge: lambda *_: object()})


@pytest.mark.parametrize("answer", [7, None, ["text"]])
def test_an_answer_of_another_type_is_none(answer):
    with pytest.raises(FakeError, match="notify answers .* the answer must be str"):
        run(tell_flow, "o1", activities={notify: answer})


@pytest.mark.parametrize("fake", [lambda: "x", lambda *, order_id: order_id, lambda order_id, amount: "x"])
def test_a_fake_that_does_not_take_the_arguments_is_no_failure_of_the_activity(fake):
    with pytest.raises(FakeError, match=r"notify was called with \('o1'\), which its fake does not take: "):
        run(tell_flow, "o1", activities={notify: fake})


@pytest.mark.parametrize("kind", [Mock, AsyncMock])
def test_a_mock_that_has_run_out_says_so(kind):
    with pytest.raises(FakeError, match="the fake of .*notify has no further answer"):
        run(tell_flow, "o1", activities={notify: kind(side_effect=[])})


def test_what_a_fake_leaves_running_is_ended_with_its_loop():
    ended = []

    async def hurried(order_id: str) -> str:
        async def late() -> None:
            try:
                await asyncio.sleep(100)
            finally:
                ended.append(order_id)

        left.append(asyncio.create_task(late()))
        await asyncio.sleep(0)
        return order_id

    left: list[Any] = []
    assert run(tell_flow, "o1", activities={notify: hurried}) == "o1"
    assert ended == ["o1"]


def test_a_cancel_of_the_test_is_no_failure_of_an_attempt():
    async def endless(order_id: str) -> str:
        await asyncio.Event().wait()
        return order_id

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await run_async(tell_flow, "o1", activities={notify: endless})

    with pytest.raises(TimeoutError):
        asyncio.run(impatient())


def test_what_a_fake_asserts_fails_the_test():
    def checked(order_id: str, amount: int) -> Payment:
        assert amount == 8, "wrong amount"
        return Payment(amount)

    with pytest.raises(AssertionError, match="wrong amount"):
        run(pay_flow, "o1", activities={charge: checked})


def test_a_test_that_gives_up_in_a_fake_gives_up():
    with pytest.raises(pytest.fail.Exception, match="never to be called"):
        run(pay_flow, "o1", activities={charge: lambda *_: pytest.fail("never to be called")})


def test_outcomes_that_have_run_out_say_so():
    with pytest.raises(FakeError, match=r"charge was called with \('o1', 7\), and outcomes\(\) of 1 has none left"):
        run(pay_flow, "o1", activities={charge: outcomes(OSError("down"))})


def test_a_transactional_activity_wants_a_fake():
    with pytest.raises(FakeError, match="is transactional: .* Give it a fake, or test it on Postgres"):
        run(book_flow, "o1")
    assert run(book_flow, "o1", activities={book: 5}) == 5


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda: fail("no"), "write an exception, such as fail"),
        (lambda: fail(OSError, times=0), "a whole number of at least 1"),
        (lambda: takes(5), "write a timedelta"),
        (lambda: takes(timedelta(-1)), "write a timedelta"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_written(wrong, words):
    with pytest.raises(ConfigError, match=words):
        wrong()


# ------------------------------------------------------------------ retries and limits, in skipped time


def test_retries_wait_as_their_policy_says():
    paying = start(pay_flow, "o1", activities={charge: fail(ConnectionError("down"), times=2)})
    assert paying.result() == 7
    (call,) = paying.calls(charge)
    assert call.attempts == 3
    assert [str(error) for error in call.errors] == ["down", "down"]
    first, second, third = call.times
    assert (second - first, third - second) == (timedelta(seconds=10), timedelta(seconds=20))
    assert paying.elapsed == timedelta(seconds=30)


def test_what_comes_after_the_failures_may_be_faked():
    assert run(pay_flow, "o1", activities={charge: fail(OSError, times=3, then=Payment(1))}) == 1


def test_a_permanent_error_is_not_tried_again():
    with pytest.raises(Exception, match="ActivityFailed"):
        run(pay_flow, "o1", activities={charge: (broken := Mock(side_effect=PermanentError("no such card")))})
    broken.assert_called_once_with("o1", 7)


def test_an_attempt_that_hangs_runs_into_its_limit():
    telling = start(tell_flow, "o1", activities={notify: HANG})
    assert "heartbeat_timeout of 0:00:20" in telling.result()
    assert telling.elapsed == timedelta(seconds=20)
    paying = start(pay_flow, "o1", activities={charge: outcomes(HANG, takes(timedelta(minutes=2)), Payment(2))})
    assert paying.result() == 2
    assert paying.elapsed == timedelta(seconds=60 + 10 + 60 + 20)


def test_other_things_happen_while_an_activity_takes_its_time():
    assert run(both_flow, activities={notify: takes(timedelta(seconds=10), "x")}) == ["notify", "sleep"]
    assert Harness(activities={notify: REAL}).run(both_flow) == ["notify", "sleep"]


def test_what_is_under_way_goes_on_between_two_calls():
    telling = start(tell_flow, "o1", activities={notify: takes(timedelta(seconds=15), "slow")})
    telling.advance(timedelta(seconds=14))
    assert not telling.ended
    assert telling.advance(timedelta(seconds=1)).result() == "slow"


def test_a_cancelled_activity_is_not_finished():
    telling = start(tell_flow, "o1", activities={notify: takes(timedelta(seconds=15), "slow")})
    telling.cancel()
    assert telling.state == "cancelled"
    telling.advance(timedelta(minutes=1))
    assert telling.state == "cancelled"


def test_no_time_is_skipped_for_what_nobody_waits_for():
    @workflow(name="test_fakes.impatient_flow")
    async def impatient_flow() -> None:
        try:
            await asyncio.wait_for(notify("o1"), 5)
        except TimeoutError:
            await ready.wait()

    impatient = start(impatient_flow, activities={notify: takes(timedelta(seconds=15))}).run_until_blocked()
    assert impatient.elapsed == timedelta(seconds=5)


def test_a_key_makes_two_calls_one():
    shipping = start(ship_flow, "o1")
    assert shipping.result() == ["o1", "o1"]
    assert len(shipping.calls(ship)) == 1


def test_a_fake_knows_its_attempt():
    numbers = []

    def counting(order_id: str, amount: int) -> Payment:
        attempt = current_attempt()
        numbers.append((attempt.number, attempt.last_heartbeat))
        attempt.heartbeat(attempt.number)
        if attempt.number < 3:
            raise OSError
        return Payment(amount)

    assert run(pay_flow, "o1", activities={charge: counting}) == 7
    assert numbers == [(1, None), (2, 1), (3, 2)]


def test_a_fake_may_signal_its_run():
    @activity(name="test_fakes.request")
    def request() -> None:
        raise NotImplementedError

    @workflow(name="test_fakes.webhook")
    async def webhook_flow() -> str:
        await request()
        return await ready.wait()

    harness = Harness(activities={request: lambda: harness.follow(current_attempt().run_id).signal(ready, "called")})
    assert harness.run(webhook_flow) == "called"


def test_a_fake_does_not_let_time_pass():
    harness = Harness(activities={charge: lambda *_: harness.advance(timedelta(seconds=1))})
    with pytest.raises(AssertionError, match="only the test lets time pass"):
        harness.run(pay_flow, "o1")


# ------------------------------------------------------------------ calls


def test_calls_are_kept_in_order_with_their_arguments():
    harness = Harness()
    harness.run(pay_flow, "o1")
    harness.run(tell_flow, "o2")
    assert harness.calls().names == ["charge", "notify"]
    assert repr(harness.calls()) == "[charge('o1', 7), notify('o2')]"
    (call,) = harness.calls(charge)
    assert (call.args, call.arguments, call.activity) == (("o1", 7), {"order_id": "o1", "amount": 7}, charge.name)
    assert harness.calls()[:1].names == ["charge"]


def test_calls_assert_as_mocks_do():
    paying = start(pay_flow, "o1")
    calls = paying.calls(charge)
    calls.assert_called()
    calls.assert_called_once()
    calls.assert_called_with("o1", 7)
    calls.assert_called_once_with("o1", amount=7)
    calls.assert_any_call(order_id="o1", amount=7)
    paying.calls(notify).assert_not_called()
    assert calls.count == 1


def test_calls_say_what_was_otherwise():
    paying = start(pay_flow, "o1")
    calls, none = paying.calls(charge), paying.calls(notify)
    for wrong, words in [
        (none.assert_called, "notify was not called"),
        (none.assert_called_once, "notify was called 0 times instead of once"),
        (calls.assert_not_called, r"charge was called; calls: \[charge\('o1', 7\)\]"),
        (lambda: calls.assert_called_with("o1"), r"otherwise than with \('o1'\); calls: \[charge\('o1', 7\)\]"),
        (lambda: calls.assert_called_once_with("o2", 7), "called otherwise than with"),
        (lambda: calls.assert_any_call("o1", amount=8), r"never called with \('o1', amount=8\)"),
    ]:
        with pytest.raises(AssertionError, match=words):
            wrong()
