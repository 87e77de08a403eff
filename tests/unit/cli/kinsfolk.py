"""Here lives an app with families of runs, for tests of what is shown of them."""

import asyncio

from continuum import (
    Continuum,
    Signal,
    activity,
    continue_as_new,
    publish,
    saga,
    set_attributes,
    start_child,
    wait_signal,
    workflow,
)

__all__ = ["URL", "continuum"]

URL = "memory://tests.unit.cli.kinsfolk"
continuum = Continuum(URL, concurrency=2)

weight = Signal("weight", int, reply=int)


@activity(name="kin.book")
async def book(what: str) -> str:
    return f"a {what}"


@activity(name="kin.give_back")
async def give_back(what: str) -> None:
    assert what


@workflow(name="kin.leaf")
async def leaf(who: str) -> str:
    return f"{who} {await wait_signal('go')}"


@workflow(name="kin.middle")
async def middle(who: str) -> str:
    return await start_child(leaf, who, key=f"leaf of {who}")


@workflow(name="kin.top")
async def top(children: int) -> list[str]:
    return list(await asyncio.gather(*(start_child(middle, str(number)) for number in range(children))))


@workflow(name="kin.undone")
async def undone() -> None:
    set_attributes({"step": "booking"})
    async with saga():
        booked = await book("room").compensate(give_back, "room")
        publish("booked", booked)
        child = start_child(leaf, "undone", key="only", on_parent_close="abandon")
        child.signal("go", "away")
        await child
        request = await weight.receive()
        request.answer(request.value * 2)
        raise ValueError("rain")


@workflow(name="kin.chain")
async def chain(round_: int) -> int:
    if round_ < 3:
        continue_as_new(round_ + 1)
    return round_
