"""Signals wait for their reader, and conditions for their variables."""

import asyncio
from datetime import timedelta

import pytest

from continuum.errors import CodecError, NotInWorkflow, ReplayDriftError
from continuum.model.codec import decode, encode
from continuum.model.events import EventType
from continuum.model.questions import read_answer, write_question
from continuum.replay.effects.signal import receive_request, wait_signal, wait_until
from continuum.replay.effects.timer import sleep
from tests.replay.lab import Lab, act


@pytest.mark.parametrize("branch", ["go", "stop"])
def test_a_signal_brings_a_value(branch):
    """REP-05, REP-06."""

    async def flow():
        return "went" if await wait_signal("which") == "go" else "stopped"

    lab = Lab(flow).begin()
    assert [(e.command, e.name, e.payload) for e in lab.history if e.type == EventType.SIGNAL_AWAITED] == [
        (0, "which", None)
    ]
    assert lab.decisions[-1].state == "suspended"
    lab.signal("which", branch)
    assert lab.result == {"go": "went", "stop": "stopped"}[branch]
    lab.replays()


def test_a_history_that_waits_for_a_signal_replays_to_waiting():
    """REP-07."""

    async def flow():
        await wait_signal("go")

    lab = Lab(flow).begin()
    lab.replays()
    assert lab.execution.is_waiting_outside
    lab.close()


def test_signals_that_come_early_wait_and_are_taken_in_order():
    """MEM-09, MEM-10."""

    async def flow():
        await asyncio.sleep(10)
        return [await wait_signal("a"), await wait_signal("b"), await wait_signal("a"), await wait_signal("a")]

    lab = Lab(flow)
    lab.signal("a", 0)
    lab.begin()
    lab.signal("a", 1)
    lab.signal("b", 2)
    lab.signal("unknown", 9)
    lab.fire()
    lab.signal("a", 3)
    assert lab.result == [0, 2, 1, 3]
    lab.replays()


def test_waiters_are_served_in_order():
    async def flow():
        return await asyncio.gather(wait_signal("a"), wait_signal("a"), wait_signal("a"))

    lab = Lab(flow).begin()
    for value in (1, 2, 3):
        lab.signal("a", value)
    assert lab.result == [1, 2, 3]
    lab.replays()


def test_a_wait_times_out_and_the_signal_is_there_for_the_next():
    async def flow():
        try:
            await wait_signal("a", timeout=timedelta(seconds=5))
        except TimeoutError:
            return ["late", await wait_signal("a")]

    lab = Lab(flow).begin()
    assert lab.decisions[-1].wake_at == lab.clock + 5_000_000
    lab.fire()
    lab.signal("a", 1)
    assert lab.result == ["late", 1]
    lab.replays()


def test_a_signal_in_time_takes_its_timer_back():
    async def flow():
        return await wait_signal("a", 5)

    lab = Lab(flow).begin()
    lab.signal("a", 1)
    assert lab.result == 1
    assert "timer_cancelled" in lab.types
    assert lab.decisions[-1].wake_at is None
    lab.replays()


def test_a_waiter_cancelled_in_the_same_drain_loses_nothing():
    """The signal wakes the waiter; before it runs, it is cancelled; the next waiter gets the signal."""

    async def flow():
        first = asyncio.create_task(wait_signal("a"))
        second = asyncio.create_task(wait_signal("a"))
        await asyncio.sleep(0)
        mailbox = asyncio.get_running_loop().mailbox("a")
        real = mailbox.put

        def put(payload):
            real(payload)
            first.cancel()

        asyncio.get_running_loop().mailboxes["a"] = type("M", (), {"put": staticmethod(put), "take": mailbox.take})()
        return [await second, first.cancelled()]

    lab = Lab(flow).begin()
    lab.signal("a", 7)
    assert lab.result == [7, True]


def test_a_cancelled_waiter_leaves_the_queue():
    async def flow():
        first = asyncio.create_task(wait_signal("a"))
        second = asyncio.create_task(wait_signal("a"))
        await asyncio.sleep(1)
        first.cancel()
        return [await second, first.cancelled()]

    lab = Lab(flow).begin()
    lab.fire()
    lab.signal("a", 7)
    assert lab.result == [7, True]
    lab.replays()


def test_a_signal_that_cannot_be_decoded_is_an_ordinary_error_of_the_waiter():
    async def flow():
        try:
            await wait_signal("review", decode=lambda payload: int(decode(payload)))
        except Exception as error:
            return [type(error).__name__, "signal 'review'" in str(error), await wait_signal("review")]

    lab = Lab(flow).begin()
    lab.signal("review", "not a number")
    lab.signal("review", "next")
    assert lab.result == ["CodecError", True, "next"]
    lab.replays()


def test_a_signal_without_a_payload_is_none():
    async def flow():
        return [await wait_signal("a")]

    lab = Lab(flow).begin()
    lab.deliver(EventType.SIGNAL_RECEIVED, None, "a", None)
    assert lab.result == [None]
    lab.replays()


@pytest.mark.parametrize("name", ["", None, 5])
def test_a_signal_needs_a_name(name):
    async def flow():
        with pytest.raises(TypeError, match="name"):
            wait_signal(name)
        return 1

    assert Lab(flow).begin().result == 1


@pytest.mark.parametrize("timeout", ["5", True, [1]])
def test_a_timeout_is_a_timedelta_or_seconds(timeout):
    async def flow():
        with pytest.raises(TypeError, match="timedelta or a number"):
            wait_signal("a", timeout)
        with pytest.raises(TypeError, match="timedelta or a number"):
            wait_until(bool, timeout)
        with pytest.raises(TypeError, match="timedelta or a number"):
            sleep(timeout)
        return 1

    assert Lab(flow).begin().result == 1


# -- conditions


def test_a_condition_that_holds_does_not_wait():
    async def flow():
        await wait_until(lambda: True)
        return "at once"

    assert Lab(flow).begin().types == ["run_began", "run_completed"]


def test_a_condition_is_asked_whenever_the_run_comes_to_rest():
    async def flow():
        seen = []

        async def reader():
            while True:
                seen.append(await wait_signal("n"))

        task = asyncio.create_task(reader())
        await wait_until(lambda: sum(seen) >= 3)
        task.cancel()
        return seen

    lab = Lab(flow).begin()
    lab.signal("n", 1)
    lab.signal("n", 1)
    lab.signal("n", 1)
    assert lab.result == [1, 1, 1]
    lab.replays()


def test_conditions_that_wake_each_other_settle_in_one_turn():
    async def flow():
        state = {"n": 0}

        async def step(n):
            await wait_until(lambda: state["n"] == n)
            state["n"] += 1

        tasks = [asyncio.create_task(step(n)) for n in (3, 2, 1, 0)]
        await asyncio.gather(*tasks)
        return state["n"]

    lab = Lab(flow).begin()
    assert lab.result == 4
    assert lab.types == ["run_began", "run_completed"]


def test_a_condition_times_out():
    async def flow():
        try:
            await wait_until(lambda: False, timeout=timedelta(minutes=1))
        except TimeoutError:
            return "late"

    lab = Lab(flow).begin()
    lab.fire()
    assert lab.result == "late"
    lab.replays()


@pytest.mark.parametrize("error", [ValueError, StopIteration, SystemExit])
def test_what_a_predicate_raises_is_raised_at_the_wait(error):
    async def flow():
        broken = False

        def predicate():
            if broken:
                raise error("x")

        waiter = asyncio.create_task(wait_until(predicate))
        await asyncio.sleep(1)
        broken = True
        try:
            await waiter
        except (error, RuntimeError) as caught:
            return type(caught).__name__

    lab = Lab(flow).begin()
    lab.fire()
    assert lab.result == ("RuntimeError" if error is StopIteration else error.__name__)
    lab.replays()


def test_a_cancelled_condition_is_not_asked_any_more():
    asked = []

    async def flow():
        waiter = asyncio.create_task(wait_until(lambda: asked.append(1)))
        await asyncio.sleep(1)
        waiter.cancel()
        await act("a")
        await act("b")

    lab = Lab(flow).begin()
    lab.fire()
    count = len(asked)
    lab.complete(1)
    assert len(asked) == count
    lab.close()


def test_a_predicate_sees_the_context_of_its_waiter():
    import contextvars

    variable = contextvars.ContextVar("variable", default="none")

    async def flow():
        variable.set("mine")
        seen = []
        waiter = asyncio.create_task(wait_until(lambda: seen.append(variable.get()) or len(seen) > 1))
        await waiter
        return seen

    assert Lab(flow).begin().result == ["mine", "mine"]


def test_wait_until_takes_a_function():
    async def flow():
        with pytest.raises(TypeError, match="without arguments"):
            wait_until(True)
        return 1

    assert Lab(flow).begin().result == 1


@pytest.mark.parametrize("effect", [lambda: wait_signal("a"), lambda: wait_until(bool), lambda: sleep(1)])
def test_outside_of_workflows_they_say_so_at_the_call(effect):
    with pytest.raises(NotInWorkflow):
        effect()


# -- questions ---------------------------------------------------------------------------------------------------------


def receive():
    return receive_request("ask", decode=decode, encode=encode)


def ask(lab: Lab, question: str, value: object) -> None:
    lab.deliver(EventType.SIGNAL_RECEIVED, None, "ask", write_question(question, encode(value)))


def test_an_answer_is_a_command_that_names_its_question():
    async def flow():
        for _ in range(2):
            request = await receive()
            request.answer((request.value, request.asked))

    lab = Lab(flow).begin()
    ask(lab, "q1", "tea")
    ask(lab, "q2", {"$x": 1})
    answers = [event for event in lab.history if event.type == EventType.SIGNAL_ANSWERED]
    assert [(event.command, event.name) for event in answers] == [(1, "ask"), (3, "ask")]
    replies = [
        decode(read_answer(event.payload, question)) for event, question in zip(answers, ("q1", "q2"), strict=True)
    ]
    assert replies == [("tea", True), ({"$x": 1}, True)]
    assert read_answer(answers[0].payload, "q2") is None
    lab.replays()


def test_whoever_only_waits_gets_the_value_of_a_question():
    async def flow():
        return [await wait_signal("ask"), await wait_signal("ask")]

    lab = Lab(flow).begin()
    ask(lab, "q", {"a": (1,)})
    lab.signal("ask", "told")
    assert lab.result == [{"a": (1,)}, "told"]
    lab.replays()


def test_what_was_only_told_is_answered_without_a_trace():
    async def flow():
        request = await receive()
        request.answer("nobody hears")
        return [request.value, request.asked, request.answered]

    lab = Lab(flow).begin()
    lab.signal("ask", 1)
    assert lab.result == [1, False, True]
    assert EventType.SIGNAL_ANSWERED not in [event.type for event in lab.history]
    lab.replays()


def test_a_request_is_answered_once():
    async def flow():
        request = await receive()
        with pytest.raises(CodecError):
            request.answer(object())
        assert not request.answered
        request.answer(1)
        with pytest.raises(RuntimeError, match="has been answered"):
            request.answer(1)

    lab = Lab(flow).begin()
    ask(lab, "q", None)
    assert [event.type for event in lab.history].count(EventType.SIGNAL_ANSWERED) == 1
    assert lab.result is None
    lab.replays()


def test_another_answer_than_the_recorded_one_is_drift():
    price = [1]

    async def flow():
        request = await receive()
        request.answer(price[0])
        await wait_signal("end")

    lab = Lab(flow).begin()
    ask(lab, "q", None)
    lab.close()
    price[0] = 2
    with pytest.raises(ReplayDriftError, match="an answer to signal 'ask' with"):
        Lab(flow, history=lab.history)


def test_a_question_can_be_waited_for_in_time_only():
    async def flow():
        try:
            await receive_request("ask", 5, decode=decode, encode=encode)
        except TimeoutError:
            return "late"

    lab = Lab(flow).begin()
    lab.fire()
    assert lab.result == "late"
    lab.replays()


@pytest.mark.parametrize("payload", ['{"$ask":5}', '{"$ask":["q"]}', '{"$ask":["q",1,2]}'])
def test_what_only_looks_like_a_question_cannot_be_decoded(payload):
    async def flow():
        with pytest.raises(CodecError, match="signal 'q'"):
            await wait_signal("q")
        return await wait_signal("q")

    lab = Lab(flow).begin()
    lab.deliver(EventType.SIGNAL_RECEIVED, None, "q", payload)
    lab.signal("q", "next")
    assert lab.result == "next"
    lab.replays()
