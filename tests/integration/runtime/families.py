"""Here live the workflows with children, and the chains, of the runtime's integration suite."""

import asyncio
import json
from typing import Any

from continuum import Continuum, continue_as_new, start_child, wait_signal, workflow
from continuum.errors import ChildCancelled, ChildDepthExceeded, ChildFailed
from continuum.model.events import EventType
from tests.integration.runtime import flows

__all__ = ["children_of", "family_of"]


def children_of(continuum: Continuum, run_id: str) -> list[str]:
    """Return the ids of the children that a run has started, in order."""
    payloads = [event.payload for event in continuum.history(run_id) if event.type == EventType.CHILD_STARTED]
    return [json.loads(payload or "")["id"] for payload in payloads]


def family_of(continuum: Continuum, run_id: str) -> list[str]:
    """Return the run's id and those of its children, theirs, and so on."""
    found = [run_id]
    for each in found:
        found += children_of(continuum, each)
    return found


# ------------------------------------------------------------------ children


@workflow(name="families.doubled")
async def doubled(value: int) -> int:
    return await flows.double(value)


@workflow(name="families.plain")
async def plain(value: int) -> int:
    return value * 2


@workflow(name="families.raising")
async def raising(text: str) -> None:
    raise LookupError(text)


@workflow(name="families.patient")
async def patient() -> str:
    """Wait; clean up when cancelled."""
    try:
        return str(await wait_signal("go"))
    except asyncio.CancelledError:
        await flows.double(1)
        raise


@workflow(name="families.collector")
async def collector(count: int) -> list[Any]:
    return [await wait_signal("item") for _ in range(count)]


@workflow(name="families.sequential")
async def sequential(count: int) -> list[int]:
    return [await doubled(number) for number in range(count)]


@workflow(name="families.gathered")
async def gathered(count: int) -> list[int]:
    return await asyncio.gather(*(start_child(doubled, number, key=f"item-{number}") for number in range(count)))


@workflow(name="families.wide")
async def wide(count: int) -> int:
    return sum(await asyncio.gather(*(start_child(plain, number) for number in range(count))))


@workflow(name="families.catching")
async def catching(text: str) -> str:
    try:
        await raising(text)
    except ChildFailed as error:
        return f"{type(error).__name__}: {error.type_name}: {error.error_message}"
    return "nothing"


@workflow(name="families.propagating")
async def propagating(text: str) -> None:
    await raising(text)


@workflow(name="families.watching")
async def watching() -> str:
    try:
        return await patient()
    except ChildCancelled as error:
        return f"cancelled: {error.state}"


@workflow(name="families.asking")
async def asking() -> str:
    child = start_child(patient)
    child.request_cancel()
    try:
        return await child
    except ChildCancelled as error:
        return f"cancelled: {error.state}"


@workflow(name="families.asking_later")
async def asking_later() -> str:
    child = start_child(patient)
    await wait_signal("now")
    child.request_cancel()
    try:
        return await child
    except ChildCancelled as error:
        return f"cancelled: {error.state}"


@workflow(name="families.giving_up")
async def giving_up() -> str:
    child = start_child(patient)
    try:
        await asyncio.wait_for(child, 0.05)
    except TimeoutError:
        return child.id
    return "not cancelled"


@workflow(name="families.signalling")
async def signalling(count: int) -> list[Any]:
    child = start_child(collector, count)
    for number in range(count):
        child.signal("item", number)
        if number % 3 == 0:
            # Some in the decision that starts the child, some in later ones.
            await flows.double(number)
    return await child


@workflow(name="families.nested")
async def nested(depth: int) -> int:
    return 0 if depth == 0 else 1 + await nested(depth - 1)


@workflow(name="families.bottomless")
async def bottomless() -> int:
    try:
        return 1 + await bottomless()
    except ChildDepthExceeded:
        return 0


@workflow(name="families.forgetting")
async def forgetting(value: int) -> str:
    return start_child(doubled, value, on_parent_close="abandon").id


@workflow(name="families.tree")
async def tree(depth: int, width: int) -> int:
    """Wait at every leaf."""
    if depth == 0:
        await wait_signal("never")
    return sum(await asyncio.gather(*(start_child(tree, depth - 1, width) for _ in range(width))))


@workflow(name="families.leaving")
async def leaving(policy: str, how: str) -> None:
    """End, in one way or another, before a child has."""
    start_child(patient, on_parent_close=policy)
    await wait_signal("end")
    match how:
        case "fail":
            raise LookupError("left")
        case "continue":
            continue_as_new(policy, "return")


@workflow(name="families.stubborn")
async def stubborn() -> str:
    child = start_child(patient)
    try:
        await asyncio.shield(child)
    except asyncio.CancelledError:
        # The child is asked as well.
        try:
            await child
        except ChildCancelled as error:
            return f"kept going: {error.state}"
    return "not cancelled"


# ------------------------------------------------------------------ chains


@workflow(name="families.countdown")
async def countdown(left: int, total: int = 0) -> int:
    total = await flows.double(left) // 2 + total
    if left > 1:
        continue_as_new(left - 1, total)
    return total


@workflow(name="families.quick_countdown")
async def quick_countdown(left: int, total: int = 0) -> int:
    if left > 1:
        continue_as_new(left - 1, total + 1)
    return total + 1


@workflow(name="families.relay")
async def relay(count: int, each: int, seen: list[Any]) -> list[Any]:
    """Take a few signals, and go on as new."""
    for _ in range(each):
        if len(seen) == count:
            break
        seen = [*seen, await wait_signal("item")]
    else:
        continue_as_new(count, each, seen)
    return seen


@workflow(name="families.hoarding")
async def hoarding(left: int) -> list[Any]:
    """Let signals be delivered and taken by nobody, until the last of the chain takes them."""
    if left:
        await wait_signal("next")
        continue_as_new(left - 1)
    return [await wait_signal("item") for _ in range(3)]


@workflow(name="families.with_chain")
async def with_chain(left: int) -> int:
    return await countdown(left)


@workflow(name="families.refusing")
async def refusing(left: int) -> str:
    """Answer a cancel request by going on as new."""
    try:
        await wait_signal("never")
    except asyncio.CancelledError:
        continue_as_new(left - 1)
    return "not cancelled"


@workflow(name="families.parting")
async def parting(left: int) -> int:
    """Start a child in each run of the chain, and wait for none of them."""
    start_child(patient)
    if left > 1:
        continue_as_new(left - 1)
    await wait_signal("end")
    return left


@workflow(name="families.failing_chain")
async def failing_chain(left: int) -> None:
    if left:
        continue_as_new(left - 1)
    raise LookupError("at the end")


@workflow(name="families.dropping")
async def dropping() -> None:
    """End in the very decision that starts a child."""
    start_child(patient, on_parent_close="terminate")


@workflow(name="families.restless")
async def restless(depth: int) -> None:
    """Start children that start children, wait for none of them, go on as new, and so on for ever."""
    for number in range(3):
        if depth:
            start_child(restless, depth - 1)
        await flows.double(number)
    continue_as_new(depth)
