import asyncio
from datetime import timedelta

from continuum import Signal, sleep, wait_signal, wait_until, workflow

from .support import notify

reviewed = Signal("ordinary_reviewed", str)


@workflow(name="ordinary.timeouts", signals=[reviewed, "ordinary_go"])
async def timeouts(hours: int) -> str:
    try:
        async with asyncio.timeout(60):
            await wait_signal("ordinary_go")
    except TimeoutError:
        await notify("late")
    try:
        verdict = await reviewed.wait(timeout=timedelta(hours=hours))
    except TimeoutError:
        verdict = "none"
    try:
        await asyncio.wait_for(sleep(timedelta(days=1)), timeout=5)
    except asyncio.TimeoutError:
        verdict += "!"
    state = {"ready": False}

    async def make_ready() -> None:
        await sleep(1)
        state["ready"] = True

    task = asyncio.create_task(make_ready())
    await wait_until(lambda: state["ready"], timeout=10)
    await task
    return verdict
