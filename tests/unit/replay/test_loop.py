"""The event loop: what it offers, what it refuses, and how it shares a thread with a host."""

import asyncio
import contextvars
import gc
import sys
import threading
from asyncio import events as running

import pytest

from continuum.errors import BlockingCall, SpinError
from continuum.model.events import EventType
from continuum.replay.effects.signal import wait_until
from continuum.replay.effects.values import side_effect
from tests.replay.lab import Lab, act


def waits():
    return asyncio.Event().wait()


# -- what it is


def test_it_answers_what_libraries_ask():
    async def flow():
        loop = asyncio.get_running_loop()
        assert isinstance(loop, asyncio.AbstractEventLoop)
        loop.set_debug(True)
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor()
        return [
            loop.get_debug(),
            loop.is_running(),
            loop.is_closed(),
            loop.get_task_factory(),
            loop.get_exception_handler(),
            asyncio.get_event_loop() is loop,
            loop.create_future().get_loop() is loop,
        ]

    lab = Lab(flow).begin()
    assert lab.result == [False, True, False, None, None, True, True]
    loop = lab.execution._loop
    assert (loop.is_running(), loop.is_closed()) == (False, True)


REFUSED = {
    "run_in_executor": (lambda loop: loop.run_in_executor(None, print), "activity"),
    "to_thread": (lambda loop: asyncio.to_thread(print), "activity"),
    "set_default_executor": (lambda loop: loop.set_default_executor(None), "activity"),
    "open_connection": (lambda loop: asyncio.open_connection("127.0.0.1", 1), "activity"),
    "start_server": (lambda loop: asyncio.start_server(print, "127.0.0.1", 1), "activity"),
    "unix": (lambda loop: asyncio.open_unix_connection("/x"), "activity"),
    "getaddrinfo": (lambda loop: loop.getaddrinfo("x", 1), "activity"),
    "sock_recv": (lambda loop: loop.sock_recv(None, 1), "activity"),
    "subprocess": (lambda loop: asyncio.create_subprocess_exec("true"), "activity"),
    "shell": (lambda loop: asyncio.create_subprocess_shell("true"), "activity"),
    "add_reader": (lambda loop: loop.add_reader(0, print), "activity"),
    "signal": (lambda loop: loop.add_signal_handler(2, print), "wait_signal"),
    "threadsafe": (lambda loop: loop.call_soon_threadsafe(print), "wait_signal"),
    "run_until_complete": (lambda loop: loop.run_until_complete(None), "await"),
    "run_forever": (lambda loop: loop.run_forever(), "await"),
    "stop": (lambda loop: loop.stop(), "await"),
    "close": (lambda loop: loop.close(), "await"),
}


@pytest.mark.parametrize("call", REFUSED)
def test_what_makes_no_sense_is_refused_with_what_to_write_instead(call):
    function, instead = REFUSED[call]

    async def flow():
        try:
            await function(asyncio.get_running_loop())
        except BlockingCall as error:
            return str(error)

    lab = Lab(flow).begin()
    assert instead in lab.result
    assert "in a workflow" in lab.result
    lab.replays()


def test_a_refused_call_that_nobody_catches_fails_the_run():
    async def flow():
        await asyncio.to_thread(print)

    assert Lab(flow).begin().failure.type_name == "continuum.errors.BlockingCall"


def test_every_method_of_a_loop_works_or_is_refused_with_a_text():
    abstract = {
        name
        for name in dir(asyncio.AbstractEventLoop)
        if not name.startswith("__") and callable(getattr(asyncio.AbstractEventLoop, name))
    }
    from continuum.replay.loop import DeterministicLoop

    forgotten = {
        name
        for name in abstract
        if getattr(DeterministicLoop, name) is getattr(asyncio.AbstractEventLoop, name)
        and name != "_timer_handle_cancelled"
    }
    assert forgotten == set()


# -- sharing a thread


def test_it_runs_inside_a_host_loop_and_gives_it_back():
    async def flow():
        await asyncio.sleep(1)
        return asyncio.current_task().get_name()

    async def host():
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        hooks = sys.get_asyncgen_hooks()
        lab = Lab(flow).run()
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is me
        assert sys.get_asyncgen_hooks() == hooks
        await asyncio.sleep(0)
        return lab.result

    assert asyncio.run(host()) == "lab"


def test_one_run_inside_another_shares_nothing():
    async def inner():
        await asyncio.sleep(1)
        return len(asyncio.all_tasks())

    async def outer():
        task = asyncio.create_task(asyncio.sleep(5))
        result = Lab(inner).run().result
        await task
        return [result, asyncio.current_task().get_name()]

    assert Lab(outer).run().result == [1, "lab"]


def test_the_host_is_given_back_after_an_error_too():
    async def flow():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(SpinError):
        Lab(flow, spin_limit=50).begin()
    assert running._get_running_loop() is None


variable = contextvars.ContextVar("variable", default="default")


def test_context_variables_of_the_host_do_not_leak_in_nor_those_of_the_run_out():
    async def flow():
        seen = [variable.get()]
        variable.set("mine")
        await act("a")
        seen.append(variable.get())
        await asyncio.gather(act("b"))
        seen.append(variable.get())
        return seen

    def host():
        variable.set("the host's")
        lab = Lab(flow).begin()
        lab.complete(0)
        variable.set("the host's, later")
        lab.complete(1)
        return lab.result, variable.get()

    assert contextvars.Context().run(host) == (["default", "mine", "mine"], "the host's, later")
    assert variable.get() == "default"


def test_runs_do_not_see_each_others_context_variables():
    async def flow():
        before = variable.get()
        variable.set("mine")
        await waits()
        return before

    labs = [Lab(flow).begin() for _ in range(2)]
    assert all(lab.execution._loop.context.get(variable) == "mine" for lab in labs)
    for lab in labs:
        lab.close()


def test_asyncio_of_the_host_works_as_before():
    """as_completed and all_tasks are ours only where a workflow's loop runs."""

    async def host():
        async def value(i):
            await asyncio.sleep(0)
            return i

        results = [await each for each in asyncio.as_completed([value(i) for i in range(5)])]
        group = asyncio.gather(value(1), value(2))
        assert isinstance(hash(group), int)
        return sorted(results), len(asyncio.all_tasks()), await group

    assert asyncio.run(host()) == ([0, 1, 2, 3, 4], 3, [1, 2])
    with pytest.raises(RuntimeError):
        asyncio.all_tasks()


def test_as_completed_imported_early_is_ordered_too():
    from asyncio import as_completed as imported
    from asyncio.tasks import as_completed as elsewhere

    assert imported is elsewhere is asyncio.as_completed

    async def flow():
        order = []

        async def note(i):
            order.append(i)

        for each in imported([note(i) for i in range(20)]):
            await each
        return order

    assert Lab(flow).begin().result == list(range(20))


def test_as_completed_refuses_what_it_refuses_elsewhere():
    async def flow():
        future = act("a")
        with pytest.raises(TypeError, match="iterable of awaitables"):
            asyncio.as_completed(future)
        same = [await each for each in asyncio.as_completed([future, future])]
        return [same, list(asyncio.as_completed([]))]

    lab = Lab(flow).begin()
    lab.complete(0, 3)
    assert lab.result == [[3], []]


# -- errors nobody caught


def test_a_background_task_that_failed_is_told_once_and_not_when_it_is_collected():
    async def fails():
        raise ValueError("lost")

    async def flow():
        asyncio.create_task(fails(), name="worker")  # noqa: RUF006
        await act("a")
        gc.collect()
        return "finished anyway"

    lab = Lab(flow).begin()
    assert [(line.level, line.message) for line in lab.logs] == [
        (40, "task 'worker' failed and nobody was awaiting it: ValueError: lost")
    ]
    lab.complete(0)
    assert lab.result == "finished anyway"
    assert len(lab.logs) == 1
    lab.replays()


def test_a_task_whose_error_was_retrieved_is_not_told():
    async def fails():
        raise ValueError("found")

    async def flow():
        task = asyncio.create_task(fails())
        results = await asyncio.gather(task, return_exceptions=True)
        other = asyncio.create_task(fails())
        await asyncio.wait([other])
        return [str(results[0]), str(other.exception())]

    lab = Lab(flow).begin()
    assert lab.result == ["found", "found"]
    assert lab.logs == []


def test_the_error_of_the_main_task_is_the_runs_and_no_log_line():
    async def flow():
        raise ValueError("x")

    lab = Lab(flow).begin()
    assert lab.logs == []
    assert lab.failure.message == "x"


def test_a_plain_future_left_with_an_error_is_silent_whenever_it_is_collected():
    async def flow():
        asyncio.get_running_loop().create_future().set_exception(ValueError("x"))
        gc.collect()
        await act("a")

    lab = Lab(flow).begin()
    assert lab.logs == []
    lab.close()
    gc.collect()


def test_a_callback_that_raises_is_told_and_the_run_goes_on():
    async def flow():
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(1)
        return "on"

    lab = Lab(flow).run()
    assert lab.result == "on"
    assert [line.message for line in lab.logs] == [
        "a callback raised ZeroDivisionError: ZeroDivisionError: division by zero"
    ]
    lab.replays()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_cannot_end_the_process(error):
    async def flow():
        def callback():
            raise error

        asyncio.get_running_loop().call_soon(callback)
        await asyncio.sleep(1)
        return "on"

    assert Lab(flow).run().result == "on"


def test_an_exception_handler_gets_them_instead():
    async def flow():
        seen = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: seen.append(str(context["exception"])))
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)

        def broken(loop, context):
            raise KeyError("handler")

        loop.set_exception_handler(broken)
        assert loop.get_exception_handler() is broken
        loop.call_soon(lambda: 1 / 0)
        await asyncio.sleep(0)
        return seen

    lab = Lab(flow).begin()
    assert lab.result == ["division by zero"]
    assert [line.message for line in lab.logs] == ["unhandled error in the exception handler: KeyError: 'handler'"]


# -- spinning


def spins():
    async def polls():
        while True:
            await asyncio.sleep(0)

    async def ping_pong():
        loop = asyncio.get_running_loop()

        def again():
            loop.call_soon(again)

        again()
        await waits()

    async def in_a_task():
        task = asyncio.create_task(polls(), name="poller")
        await task

    async def conditions():
        state = []
        while True:
            await asyncio.sleep(0)
            await wait_until(lambda: state.append(1) or True)

    return {"polls": polls, "ping_pong": ping_pong, "in_a_task": in_a_task, "conditions": conditions}


@pytest.mark.parametrize("name", ["polls", "ping_pong", "in_a_task", "conditions"])
def test_code_that_never_comes_to_rest_is_stopped(name):
    with pytest.raises(SpinError, match="without coming to rest") as caught:
        Lab(spins()[name], spin_limit=100).begin()
    if name == "in_a_task":
        assert "'poller'" in str(caught.value)


@pytest.mark.parametrize("effect", [lambda: act("a"), lambda: side_effect(int)])
def test_code_that_asks_for_ever_more_without_waiting_is_stopped(effect):
    async def flow():
        while True:
            effect()

    with pytest.raises(SpinError, match=r"more than 100 commands.*\.py:\d+"):
        Lab(flow, spin_limit=100).begin()


def test_the_limit_counts_anew_for_each_completion_live_and_on_replay():
    async def flow(n):
        for _ in range(n):
            for _ in range(30):
                await asyncio.sleep(0)
            await act("a")

    lab = Lab(flow, 10, spin_limit=100).run()
    assert lab.history[-1].type == EventType.RUN_COMPLETED
    for inline in (True, False):
        Lab(flow, history=lab.history, spin_limit=100, inline=inline)


def test_the_same_code_spins_at_the_same_place_every_time():
    async def flow():
        await act("a")
        while True:
            await asyncio.sleep(0)

    lab = Lab(flow, spin_limit=100).begin()
    history = list(lab.history)
    for _ in range(3):
        again = Lab(flow, spin_limit=100, history=history)
        with pytest.raises(SpinError):
            again.complete(0)
    with pytest.raises(SpinError):
        lab.complete(0)


# -- tasks


def test_tasks_are_held_however_little_workflow_code_holds_them():
    async def flow():
        seen = []

        async def worker():
            await act("a")
            seen.append("done")

        asyncio.create_task(worker())  # noqa: RUF006
        await act("b")
        return seen

    lab = Lab(flow).begin()
    gc.collect()
    lab.complete(1)
    lab.complete(0)
    assert lab.result == ["done"]


def test_a_task_factory_is_used():
    async def flow():
        made = []

        def factory(loop, coro, **options):
            made.append(options)
            return asyncio.Task(coro, loop=loop, **options)

        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        task = asyncio.create_task(act_and_return(), name="mine")
        context = contextvars.copy_context()
        other = loop.create_task(act_and_return(), context=context)
        total = await task + await other
        loop.set_task_factory(None)
        return [total, task.get_name(), len(made), len(asyncio.all_tasks())]

    async def act_and_return():
        return await act("a")

    lab = Lab(flow).run(4)
    assert lab.result == [8, "mine", 2, 1]
    lab.replays()


def test_tasks_have_names_that_do_not_depend_on_other_runs():
    async def flow():
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(3)]
        names = [task.get_name() for task in tasks]
        await asyncio.wait(tasks)
        return names

    assert Lab(flow).begin().result == Lab(flow).begin().result == ["Task-2", "Task-3", "Task-4"]


def test_ten_thousand_parked_runs_do_not_slow_each_other_down():
    """asyncio keeps all tasks of a process in one set: equal hashes would make it quadratic."""

    async def flow():
        await waits()

    labs = [Lab(flow, seed=f"{i:032x}").begin() for i in range(300)]
    hashes = {hash(lab.execution._loop.main) for lab in labs}
    assert len(hashes) == len(labs)
    for lab in labs:
        lab.close()


def test_a_run_may_be_turned_by_one_thread_and_then_by_another():
    async def flow():
        seen = [threading.current_thread().name]
        await act("a")
        return [*seen, threading.current_thread().name]

    lab = Lab(flow).begin()
    thread = threading.Thread(target=lab.complete, args=(0,), name="other")
    thread.start()
    thread.join()
    assert lab.result == ["MainThread", "other"]


# -- async generators


def test_a_generator_left_open_is_closed_at_once_if_nothing_refers_to_it():
    async def flow():
        seen = []

        async def numbers():
            try:
                yield 1
            finally:
                await act("close")
                seen.append("closed")

        async for _ in numbers():
            break
        await act("next")
        await act("last")
        return seen

    lab = Lab(flow).run()
    assert lab.result == ["closed"]
    lab.replays()


def test_a_generator_in_a_cycle_is_closed_when_the_run_ends_and_not_when_it_is_collected():
    """When the collector comes is no part of the history."""
    seen = []

    async def flow(collect):
        async def numbers():
            try:
                yield [1]
            finally:
                seen.append("closed")
                await act("close")

        generator = numbers()
        await anext(generator)
        cycle = [generator]
        cycle.append(cycle)
        del generator, cycle
        if collect:
            gc.collect()
        await act("next")
        return list(seen)

    for collect in (True, False):
        seen.clear()
        lab = Lab(flow, collect).begin()
        lab.complete(0)
        assert lab.result == []
        assert [o.activity for d in lab.decisions for o in d.orders] == ["next"]
        del lab
    gc.collect()


def test_a_generator_collected_by_another_thread_does_not_run_there():
    seen = []

    async def numbers():
        try:
            yield 1
        finally:
            seen.append(threading.current_thread().name)

    async def begin():
        generator = numbers()
        await anext(generator)
        cycle = [generator]
        cycle.append(cycle)

    async def flow():
        await begin()
        await act("a")

    gc.disable()
    try:
        lab = Lab(flow).begin()
        thread = threading.Thread(target=gc.collect, name="other")
        thread.start()
        thread.join()
    finally:
        gc.enable()
    assert seen == []
    lab.close()
    assert seen == ["MainThread"]


def test_many_generators_leave_no_trace():
    async def flow():
        async def numbers():
            yield 1

        for _ in range(500):
            async for _ in numbers():
                pass
        return len(asyncio.get_running_loop()._agens)

    assert Lab(flow).begin().result < 300
