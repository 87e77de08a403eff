"""The harness runs workflows on the real engine, in this thread, and skips what they wait for."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import pytest

from continuum import (
    ActivityFailed,
    RunCancelled,
    RunFailed,
    RunTerminal,
    Signal,
    activity,
    continue_as_new,
    log,
    now,
    publish,
    sleep,
    start_child,
    wait_until,
    workflow,
)
from continuum.errors import ConfigError, DeclarationError
from continuum.testing import Harness, HarnessError, RunBlocked, RunGoesOn, RunStuck, run, run_async, start

fraud_review = Signal("fraud_review", str)
quote = Signal("quote", int, reply=str)


@activity
def price(items: list[int]) -> int:
    return sum(items)


@activity(retry=3)
async def charge(order_id: str, amount: int) -> str:
    await asyncio.sleep(0)
    return f"{order_id}:{amount}"


@activity
def say_thread() -> str:
    return threading.current_thread().name


@workflow(name="test_harness_runs.order_flow")
async def order_flow(order_id: str, items: list[int]) -> str:
    total = await price(items)
    receipt = await charge(order_id, total)
    if total <= 100:
        return receipt
    try:
        decision = await fraud_review.wait(timeout=timedelta(hours=24))
    except TimeoutError:
        decision = "nobody looked"
    return f"{receipt} {decision}"


@workflow(name="test_harness_runs.patient_flow")
async def patient_flow() -> str:
    return await fraud_review.wait()


@workflow(name="test_harness_runs.thread_flow")
async def thread_flow() -> str:
    return await say_thread()


@workflow(name="test_harness_runs.naps_flow")
async def naps_flow(naps: int, *, each: timedelta) -> str:
    for _ in range(naps):
        await sleep(each)
    return now().isoformat()


@workflow(name="test_harness_runs.failing_flow")
async def failing_flow() -> None:
    raise ValueError("no such order")


@workflow(name="test_harness_runs.tidy_flow")
async def tidy_flow(seen: list[str]) -> str:
    try:
        await fraud_review.wait()
    except asyncio.CancelledError:
        await price([1])
        raise
    return "never"


@workflow(name="test_harness_runs.child_flow")
async def child_flow(name: str) -> str:
    return f"{name} {await fraud_review.wait()}"


@workflow(name="test_harness_runs.parent_flow")
async def parent_flow() -> list[str]:
    return list(await asyncio.gather(start_child(child_flow, "a", key="a"), start_child(child_flow, "b", key="b")))


@workflow(name="test_harness_runs.nap_tree_flow")
async def nap_tree_flow(depth: int) -> int:
    if depth == 0:
        await sleep(timedelta(days=1))
        return 1
    return sum(await asyncio.gather(*[nap_tree_flow(depth - 1) for _ in range(3)]))


@workflow(name="test_harness_runs.chain_flow")
async def chain_flow(left: int) -> str:
    await sleep(3600)
    publish("left", left)
    if left:
        continue_as_new(left - 1)
    return "done"


@workflow(name="test_harness_runs.endless_flow")
async def endless_flow() -> None:
    while True:
        await sleep(1)


@workflow(name="test_harness_runs.quoting_flow")
async def quoting_flow() -> None:
    asked: list[int] = []
    while not asked:
        question = await quote.receive()
        asked.append(question.value)
        question.answer(f"{question.value} euros")


@workflow(name="test_harness_runs.own_wait_flow")
async def own_wait_flow() -> None:
    await wait_until(lambda: False)


# ------------------------------------------------------------------ results


def test_a_workflow_runs_to_its_result():
    assert run(order_flow, "o1", [1, 2]) == "o1:3"


def test_a_signal_is_sent_when_the_run_has_started():
    assert run(order_flow, "o1", [100, 1], signals={fraud_review: "approved"}) == "o1:101 approved"
    assert run(patient_flow, signals=[("fraud_review", "first"), ("fraud_review", "second")]) == "first"


def test_a_timeout_passes_at_once_when_nobody_signals():
    assert run(order_flow, "o1", [100, 1]) == "o1:101 nobody looked"


def test_a_thousand_years_are_skipped():
    with start(naps_flow, 10, each=timedelta(days=36_525)) as napping:
        assert napping.result().startswith("3")
    assert napping.elapsed == timedelta(days=365_250)


def test_an_activity_costs_one_request():
    @workflow(name="test_harness_runs.hundred_flow")
    async def hundred_flow() -> int:
        return sum([await price([number]) for number in range(100)])

    counting = start(hundred_flow)
    assert counting.result() == 4_950
    # A request and its answer for each commit, and a few for the claim.
    assert counting._engine._journal.traffic <= 2 * 101 + 10


def test_everything_happens_in_the_thread_of_the_test():
    threads = threading.active_count()
    assert run(thread_flow) == threading.current_thread().name
    assert threading.active_count() == threads


def test_the_clock_begins_where_the_test_says():
    at = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)
    assert run(naps_flow, 1, each=timedelta(hours=1), now=at) == "2031-05-06T08:08:00+00:00"


def test_a_clock_without_a_time_zone_is_refused():
    with pytest.raises(ConfigError, match="no datetime with a time zone: write datetime"):
        run(patient_flow, now=datetime(2031, 5, 6))  # noqa: DTZ001 - that is the mistake


def test_a_failed_workflow_raises_as_a_handle_does_and_shows_where():
    with pytest.raises(RunFailed, match="ValueError: no such order") as caught:
        run(failing_flow)
    assert "failing_flow" in caught.value.__notes__[0]


def test_what_is_no_workflow_is_refused():
    with pytest.raises(DeclarationError, match="is the @workflow decorator missing"):
        run(lambda: None)


def test_wrong_arguments_are_refused_at_the_call():
    with pytest.raises(TypeError, match="items"):
        run(order_flow, "o1")


def test_a_parameter_of_an_options_name_is_refused_and_the_harness_takes_it():
    @workflow(name="test_harness_runs.strict_parameter")
    async def picky_flow(strict: int) -> int:
        return strict

    with pytest.raises(ConfigError, match=r"has a parameter 'strict'.*Harness\(strict=…\)\.run\(strict_parameter, …\)"):
        run(picky_flow, strict=True)
    assert Harness().run(picky_flow, strict=3) == 3


# ------------------------------------------------------------------ what it waits for


def test_a_run_that_waits_for_a_signal_says_for_which_and_where():
    with pytest.raises(RunBlocked) as caught:
        run(patient_flow)
    assert str(caught.value).startswith("patient_flow waits for signal 'fraud_review' (test_harness_runs.py:")
    assert str(caught.value).endswith("), and no timer is running: send it with .signal(…)")
    assert len(caught.value.waits) == 1


def test_a_run_that_waits_for_its_child_says_what_that_waits_for():
    with pytest.raises(RunBlocked, match=r"waits for child child_flow .*, which waits for signal 'fraud_review'"):
        run(parent_flow)


def test_a_run_that_waits_for_itself_says_so():
    with pytest.raises(RunBlocked, match="waits inside its own code"):
        run(own_wait_flow)


def test_a_wait_with_a_timeout_says_until_when():
    order = start(order_flow, "o1", [101], now=datetime(2030, 1, 1, tzinfo=UTC))
    assert order.waits[0].endswith(", or 2030-01-02 00:00:00 UTC")


def test_a_run_without_an_end_is_noticed(monkeypatch):
    monkeypatch.setattr("continuum.testing.engine.MOST_SKIPS", 50)
    with pytest.raises(RunGoesOn, match="after 50 timers"):
        run(endless_flow)


def test_a_run_that_never_rests_is_noticed(monkeypatch):
    @workflow(name="test_harness_runs.restless")
    async def restless_flow() -> None:
        while True:
            await price([1])

    monkeypatch.setattr("continuum.testing.engine.MOST_PASSES", 50)
    with pytest.raises(RunGoesOn, match="and no time has passed"):
        run(restless_flow)


def test_the_errors_of_the_harness_are_failed_assertions():
    assert issubclass(HarnessError, AssertionError)


# ------------------------------------------------------------------ a run step by step


def test_a_started_run_stands_at_its_first_wait():
    order = start(order_flow, "o1", [101])
    assert order.state == "suspended"
    assert [event.type for event in order.history][-1] == "timer_started"
    assert order.signal(fraud_review, "approved") == "delivered"
    assert order.ended
    assert order.result() == "o1:101 approved"
    assert order.waits == ()


def test_time_passes_only_as_the_test_says():
    order = start(order_flow, "o1", [101]).advance(timedelta(hours=23))
    assert not order.ended
    assert order.advance(timedelta(hours=1)).result() == "o1:101 nobody looked"
    assert order.elapsed == timedelta(hours=24)


def test_time_does_not_go_back():
    order = start(order_flow, "o1", [101])
    for move in (lambda: order.advance(timedelta(-1)), lambda: order.later(timedelta(-1), order.cancel)):
        with pytest.raises(ConfigError, match="time only goes on"):
            move()


def test_the_next_timer_fires_when_it_is_told_to():
    order = start(order_flow, "o1", [101]).fire_timer()
    assert order.result() == "o1:101 nobody looked"
    assert order.elapsed == timedelta(hours=24)


def test_without_a_timer_none_fires():
    with pytest.raises(RunBlocked, match="no timer is running"):
        start(patient_flow).fire_timer()
    with pytest.raises(RunBlocked, match=r"order_flow has ended \(completed\)"):
        start(order_flow, "o1", [1]).fire_timer()


def test_a_signal_goes_through_the_inbox_and_is_journaled_as_any():
    waiting = start(patient_flow)
    waiting.signal("fraud_review", "by name", delivery_id="m1")
    received = [event for event in waiting.history if event.type == "signal_received"]
    assert [(event.name, event.payload) for event in received] == [("fraud_review", '"by name"')]
    with pytest.raises(RunTerminal):
        waiting.signal(fraud_review, "late")


def test_a_delivery_id_makes_two_signals_one():
    two = start(parent_flow)
    child = two.children[0]
    assert child.signal(fraud_review, "x", delivery_id="m1") == "delivered"
    assert two.children[1].signal(fraud_review, "y", delivery_id="m1") == "delivered"
    waiting = start(own_wait_flow)
    assert waiting.signal("any", 1, delivery_id="m1") == "delivered"
    assert waiting.signal("any", 1, delivery_id="m1") == "duplicate"


def test_something_can_happen_later():
    order = start(order_flow, "o1", [101])
    order.later(timedelta(hours=5), order.signal, fraud_review, "in time")
    assert order.result() == "o1:101 in time"
    assert order.elapsed == timedelta(hours=5)


def test_a_cancel_lets_the_workflow_clean_up():
    tidy = start(tidy_flow, [])
    tidy.cancel()
    assert tidy.state == "cancelled"
    tidy.calls(price).assert_called_once_with([1])
    with pytest.raises(RunCancelled):
        tidy.result()


def test_a_termination_does_not():
    tidy = start(tidy_flow, [])
    tidy.terminate("enough")
    assert tidy.state == "terminated"
    tidy.calls(price).assert_not_called()
    with pytest.raises(RunCancelled, match="enough"):
        tidy.result()


def test_children_can_be_told_apart_and_signalled():
    family = start(parent_flow)
    first, second = family.children
    second.signal(fraud_review, "2")
    assert (first.state, second.state, family.state) == ("suspended", "completed", "suspended")
    first.signal(fraud_review, "1")
    assert family.result() == ["a 1", "b 2"]


def test_a_tree_of_children_runs_through_the_time_it_sleeps():
    tree = start(nap_tree_flow, 3)
    assert tree.result() == 27
    assert tree.elapsed == timedelta(days=1)


def test_a_chain_is_followed_to_its_end():
    chain = start(chain_flow, 3)
    chain.advance(timedelta(minutes=90))
    assert chain.progress() == {"left": 3} or chain.progress() == {}
    assert chain.result() == "done"
    assert chain.elapsed == timedelta(hours=4)
    assert chain.progress() == {"left": 0}


def test_a_question_is_answered():
    quoting = start(quoting_flow)
    assert quoting.ask(quote, 3) == "3 euros"
    assert quoting.ended


def test_a_question_that_nobody_answers_is_told():
    with pytest.raises(RunBlocked, match="and it has not answered"):
        start(patient_flow).ask(quote, 3)


def test_a_run_can_be_moved_to_where_it_needs_the_test():
    order = start(order_flow, "o1", [101]).run_until_blocked()
    assert order.ended
    assert not start(patient_flow).run_until_blocked().ended


def test_a_run_tells_what_it_is():
    assert repr(start(patient_flow)).startswith("<suspended run ")
    assert repr(start(patient_flow)).endswith(" of patient_flow>")
    assert repr(Harness(now=datetime(2030, 1, 1, tzinfo=UTC))) == "<Harness at 2030-01-01 00:00:00 UTC>"


# ------------------------------------------------------------------ several runs, and their client


def test_runs_of_one_harness_share_its_clock_and_its_keys():
    with Harness() as harness:
        one = harness.start(order_flow, "o1", [101])
        again = harness.follow(harness.continuum.start(order_flow, "o1", [101], idempotency_key="k"))
        same = harness.follow(harness.continuum.start(order_flow, "o1", [101], idempotency_key="k"))
        assert again.id == same.id != one.id
        harness.move()
        harness.advance(timedelta(hours=24))
        assert one.ended
        assert again.ended
        assert len(harness.calls(charge)) == 2
        assert len(one.calls(charge)) == 1


def test_a_run_takes_the_options_of_a_start():
    order = start(order_flow, "o1", [1], attributes={"customer": 7}, namespace="eu")
    assert (order.info.attributes, order.info.namespace) == ({"customer": 7}, "eu")


def test_nothing_stays_open_between_two_calls():
    waiting = start(patient_flow)
    engine = waiting._engine
    assert engine._turns is None
    with waiting:
        waiting.signal("other", 1)
        assert engine._turns is not None
    assert engine._turns is None


# ------------------------------------------------------------------ loops


async def in_a_loop() -> None:
    mine = asyncio.get_running_loop()

    @activity(name="test_harness_runs.which_loop")
    async def which_loop() -> bool:
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is mine

    @workflow(name="test_harness_runs.which_loop_flow")
    async def loop_flow() -> bool:
        await sleep(5)
        return await which_loop()

    assert await run_async(loop_flow) is True
    assert run(loop_flow) is False
    assert asyncio.get_running_loop() is mine
    await asyncio.sleep(0)
    assert await Harness().run_async(loop_flow) is True


def test_it_works_inside_of_a_running_loop():
    asyncio.run(in_a_loop())


# ------------------------------------------------------------------ stuck


def test_a_run_that_is_stuck_says_why():
    counter = iter(range(100))

    @workflow(name="test_harness_runs.drifting")
    async def drifting_flow() -> None:
        if next(counter) % 2:  # continuum: allow[CT201] the drift that this test is about
            await sleep(1)
        else:
            await price([1])
        await sleep(1)

    with pytest.raises(
        RunStuck, match="drifting is stuck, as it would be in production until a deploy: .*ReplayDriftError"
    ):
        run(drifting_flow, restart_always=True)


def test_lines_of_the_log_are_told_once(caplog):
    @workflow(name="test_harness_runs.logging")
    async def logging_flow() -> None:
        log.warning("before")
        await price([1])
        log.warning("after")

    run(logging_flow, restart_always=True)
    assert [record.getMessage() for record in caplog.records if record.getMessage() in ("before", "after")] == [
        "before",
        "after",
    ]


def test_an_activity_that_fails_for_good_reaches_the_workflow():
    @activity(name="test_harness_runs.broken", retry=2)
    def broken() -> None:
        raise ConnectionError("down")

    @workflow(name="test_harness_runs.catching")
    async def catching_flow() -> str:
        try:
            await broken()
        except ActivityFailed as error:
            return f"{error.type_name} after {error.attempts}"
        return "fine"

    assert run(catching_flow) == "ConnectionError after 2"
