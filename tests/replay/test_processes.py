"""What a run asks for is the same in every process: whatever PYTHONHASHSEED, memory layout and Python are."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

RECORD = """
import hashlib, json, random, sys
junk = [bytearray(random.randrange(1, 4000)) for _ in range(random.randrange(1, 3000))]
random.shuffle(junk); del junk[: len(junk) // 2]
from tests.replay.programs import live
from tests.replay.sagas import drive
from tests.replay.test_processes import sets
from tests.replay.lab import Lab
out = []
for seed in range(80):
    lab, trace = live(seed, families=seed >= 40)
    out.append([[str(e.type), e.command, e.name, e.payload, e.at] for e in lab.history if e.type != "run_failed"])
    out.append(list(trace)); lab.close()
for seed in range(40):
    lab = drive(seed, cancel=seed % 3 == 0)
    out.append([[str(e.type), e.command, e.payload] for e in lab.history if e.type != "run_failed"])
out.append(Lab(sets).run(7).result)
print(json.dumps([hashlib.sha256(json.dumps(out).encode()).hexdigest(), out[-1]]))
"""


async def sets():
    """The order of every set that asyncio keeps for us."""
    import asyncio

    out = []

    async def worker(i):
        try:
            await asyncio.sleep(100)
        finally:
            out.append(i)

    tasks = [asyncio.create_task(worker(i)) for i in range(6)]
    await asyncio.sleep(1)
    _, pending = await asyncio.wait(tasks, timeout=1)
    for task in pending:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    async def boom():
        await asyncio.sleep(1)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for i in range(6, 12):
                group.create_task(worker(i))
            group.create_task(boom())
    except* ValueError:
        pass

    async def note(i):
        out.append(i)
        await asyncio.sleep(0)

    for each in asyncio.as_completed([note(i) for i in range(12, 18)]):
        await each
    gathered = {asyncio.gather(note(i)): i for i in range(18, 24)}
    done, _ = await asyncio.wait(gathered)
    out.extend(gathered[each] for each in done)
    futures = {asyncio.get_running_loop().create_future(): i for i in range(24, 30)}
    for future in futures:
        future.set_result(None)
    done, _ = await asyncio.wait(futures)
    out.extend(futures[each] for each in done)
    out_of_reach = [asyncio.create_task(asyncio.sleep(50), name=str(i)) for i in range(30, 36)]
    assert len(out_of_reach) == 6
    out.extend(int(task.get_name()) for task in asyncio.all_tasks() if task.get_name() != "lab")
    return out


def record(hash_seed: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", RECORD],
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_histories_do_not_depend_on_the_hash_seed_or_on_addresses():
    first, *others = [record(seed) for seed in ("0", "4711", "random")]
    assert others == [first] * len(others)


def test_sets_of_tasks_are_in_order_of_creation():
    _, order = record("random")
    assert order[:18] == list(range(18))
    assert sorted(order[18:24]) == order[18:24]
