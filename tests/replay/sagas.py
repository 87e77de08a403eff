"""Here live random programs with sagas, and what drives them."""

import asyncio
import contextlib
import random

from continuum.errors import ActivityError, CompensationError
from continuum.replay.effects.saga import compensate, compensate_all, saga
from tests.replay.lab import Lab, act
from tests.support.undoing import Undoes

undo_a = Undoes("undo_a")


async def program(seed, shape):
    """A tree of blocks, tasks, timeouts and calls. Blocks are left by errors, or not, as the seed has it."""
    rng = random.Random(seed)
    counter = iter(range(10_000))
    tasks = []

    async def one():
        call = act("a").compensate(undo_a, next(counter))
        how = rng.random()
        if how < 0.15:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.choice([0, 1, 5])):
                    await call
        elif how < 0.2:
            call.cancel()
        elif how < 0.9:
            with contextlib.suppress(ActivityError):
                await call
            if call.done() and rng.random() < 0.2:
                with contextlib.suppress(ActivityError, asyncio.CancelledError):
                    await compensate(call)

    async def tree(depth):
        for _ in range(rng.randrange(1, 4)):
            kind = rng.random()
            if depth == 0 or kind < 0.4:
                await one()
            elif kind < 0.65:
                with contextlib.suppress(ValueError, ExceptionGroup):
                    async with saga(parallel=rng.random() < 0.5):
                        await tree(depth - 1)
                        if rng.random() < 0.4:
                            raise ValueError
            elif kind < 0.75:
                with contextlib.suppress(ValueError, CompensationError):
                    await asyncio.gather(tree(depth - 1), tree(depth - 1), tree(depth - 1))
            elif kind < 0.85:
                with contextlib.suppress(ValueError, ExceptionGroup):
                    async with asyncio.TaskGroup() as group:
                        for _ in range(2):
                            group.create_task(tree(depth - 1))
            elif kind < 0.9:
                with contextlib.suppress(CompensationError):
                    await compensate_all(parallel=rng.random() < 0.5)
            elif kind < 0.95:
                raise ValueError
            else:
                tasks.append(asyncio.create_task(tree(depth - 1)))

    async with saga():
        await tree(3)
        if shape:
            raise ValueError


def drive(seed, *, cancel):
    rng = random.Random(-seed)

    async def flow():
        await program(seed, shape)

    shape = bool(seed % 2)
    lab = Lab(flow, spin_limit=5_000).begin()
    for step in range(400):
        if lab.ended:
            break
        if cancel and step == 7:
            lab.cancel()
            continue
        waiting = sorted(lab.execution.open_activities)
        if waiting and (lab.execution.earliest_timer is None or rng.random() < 0.8):
            command = rng.choice(waiting)
            lab.fail(command) if rng.random() < 0.15 else lab.complete(command, step)
        elif lab.execution.earliest_timer is not None:
            lab.fire()
    assert lab.ended, "the run did not end"
    return lab
