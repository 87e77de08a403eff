"""The async twins: the same calls, awaited, and waiting that occupies no thread."""

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from continuum import AsyncRunHandle, Continuum, ResultTimeout, RunFailed, RunHandle, RunNotFound
from continuum.client.aio import AsyncCalls
from continuum.client.calls import Calls
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(main())  # type: ignore[arg-type]


def public(cls: type) -> set[str]:
    return {name for name in vars(cls) if not name.startswith("_")}


def test_every_call_has_its_twin() -> None:
    assert public(AsyncCalls) == public(Calls)
    assert public(AsyncRunHandle) - {"sync"} == public(RunHandle) - {"aio"}


def test_twins_have_the_signatures_of_their_originals() -> None:
    for name in public(AsyncCalls) - {"start", "start_unique", "handle"}:
        assert inspect.signature(inspect.unwrap(vars(AsyncCalls)[name])) == inspect.signature(vars(Calls)[name])


def test_the_life_of_a_run_can_be_awaited(continuum: Continuum) -> None:
    async def main() -> None:
        handle = await continuum.aio.start(flows.first_signal, "s", attributes={"a": 1})
        assert isinstance(handle, AsyncRunHandle)
        again, how = await continuum.aio.start_unique("client.sum", 1, idempotency_key="k")
        assert how == "started"
        assert (await continuum.aio.get(handle.id)).attributes == {"a": 1}
        assert await continuum.aio.signal(handle.id, "another", delivery_id="d") == "delivered"
        assert await handle.signal("another", delivery_id="d") == "duplicate"
        assert await handle.signal("s", 1) == "delivered"
        assert await handle.result(timeout=WAIT) == 1
        assert await again.result(timeout=WAIT) == 2
        assert (await handle.refresh()).ended
        assert (await handle.history())[-1].type == "run_completed"
        assert len((await continuum.aio.search()).runs) == 2
        assert await continuum.aio.tasks(handle.id) == []
        bare = continuum.aio.handle(handle.id)
        assert await bare.result(timeout=WAIT) == 1
        assert bare.sync == handle.sync

    with continuum.running():
        run(main)


def test_errors_come_through(continuum: Continuum) -> None:
    async def main() -> None:
        with pytest.raises(RunFailed, match="no such order"):
            await (await continuum.aio.start(flows.broken, "no such order")).result(timeout=WAIT)
        with pytest.raises(RunNotFound):
            await continuum.aio.get("0190a6f0-0000-7000-8000-000000000001")
        with pytest.raises(RunNotFound):
            await continuum.aio.handle("0190a6f0-0000-7000-8000-000000000001").result()
        with pytest.raises(ValueError, match="timeout"):
            await (await continuum.aio.start(flows.forever)).result(timeout=-1)

    with continuum.running():
        run(main)


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_an_awaited_result_can_time_out(continuum: Continuum, timeout: float) -> None:
    async def main() -> None:
        handle = await continuum.aio.start(flows.forever)
        with pytest.raises(ResultTimeout):
            await handle.result(timeout=timeout)

    run(main)
    assert continuum._access.hub.waiters == 0


def test_a_cancelled_await_stops_waiting_and_leaves_the_run_alone(continuum: Continuum) -> None:
    async def main() -> str:
        handle = await continuum.aio.start(flows.forever)
        waiting = asyncio.create_task(handle.result())
        await asyncio.to_thread(eventually, lambda: continuum._access.hub.waiters == 1)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return handle.id

    run_id = asyncio.run(main())
    assert continuum._access.hub.waiters == 0
    assert not continuum.get(run_id).ended


def test_awaiting_many_results_occupies_no_threads(continuum: Continuum) -> None:
    async def main() -> None:
        handles = [await continuum.aio.start(flows.first_signal, "go") for _ in range(60)]
        before = threading.active_count()
        waiting = [asyncio.create_task(handle.result(timeout=WAIT)) for handle in handles]
        while continuum._access.hub.waiters < len(handles):
            await asyncio.sleep(0.01)
        assert threading.active_count() <= before + 1
        for number, handle in enumerate(handles):
            await handle.signal("go", number)
        assert await asyncio.gather(*waiting) == list(range(60))

    with continuum.running():
        run(main)


def test_the_loop_turns_while_a_call_is_under_way(continuum: Continuum) -> None:
    """A blocking call on the loop's own thread would stop the ticking."""
    entered, leave = threading.Event(), threading.Event()
    original = continuum.journal.runs.find

    def slow(*args: Any, **kwargs: Any) -> Any:
        entered.set()
        assert leave.wait(WAIT)
        return original(*args, **kwargs)

    async def ticks() -> AsyncIterator[None]:
        while not entered.is_set():
            yield await asyncio.sleep(0.001)

    async def main() -> None:
        handle = await continuum.aio.start(flows.forever)
        continuum.journal.runs.find = slow  # type: ignore[method-assign]
        asking = asyncio.create_task(continuum.aio.get(handle.id))
        async for _ in ticks():
            pass
        assert not asking.done()
        leave.set()
        assert (await asking).id == handle.id

    run(main)
