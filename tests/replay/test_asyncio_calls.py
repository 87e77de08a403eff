"""An activity call may be passed to whatever asyncio makes tasks of."""

import asyncio

from tests.replay.lab import Lab, act


def test_activity_calls_become_tasks():
    async def flow():
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(act(f"a{n}")) for n in range(3)]
        single = asyncio.create_task(act("b"))
        return [task.result() for task in tasks] + [await single]

    lab = Lab(flow).begin()
    for command in (2, 0, 1, 3):
        lab.complete(command)
    assert len(lab.result) == 4
    lab.replays()
