"""Here lives what is run: steps that do nothing, so that only the engine is measured.

Every contender's steps return the same small object, and every contender encodes it in its own way.
"""

import asyncio
import os
from typing import Any

from continuum import Continuum, activity, patched, side_effect, start_child, workflow

__all__ = ["RESULT", "continuum", "family", "member", "mix", "noop", "refund", "steps"]

RESULT = {"ok": True, "value": 1, "id": "ord_0123456789", "note": "charged"}
ACTIVE_RUNS = "CONTINUUM_BENCH_ACTIVE_RUNS"

# For `continuum-dispatcher -A benchmarks.workloads.flows`; the URL is in CONTINUUM_DATABASE_URL.
continuum = Continuum(active_runs=int(os.environ.get(ACTIVE_RUNS, "1000")))


@activity(name="noop")
def noop(number: int) -> dict[str, Any]:  # noqa: ARG001 - it is recorded, and that is its use
    return dict(RESULT)


@activity(name="refund")
def refund(number: int) -> dict[str, Any]:  # noqa: ARG001
    return dict(RESULT)


@workflow(name="steps")
async def steps(count: int) -> int:
    """Do ``count`` steps, one after the other."""
    total = 0
    for number in range(count):
        result = await noop(number)
        total += result["value"]
    return total


@workflow(name="mix")
async def mix(rounds: int) -> int:
    """Do what the original's replay benchmark does: side effect, activity, patch, activity; six events a round."""
    total = 0
    for number in range(rounds):
        token = side_effect(_token, number)
        charged = await noop(number)
        if patched(f"patch-{number}"):
            total += charged["value"]
        undone = await refund(token)
        total += undone["value"]
    return total


@workflow(name="member")
async def member(number: int, count: int) -> int:
    """Be a child that does ``count`` steps."""
    for step in range(count):
        await noop(number + step)
    return 1


@workflow(name="family")
async def family(width: int, count: int) -> int:
    """Start ``width`` children of ``count`` steps each, and wait for all."""
    return sum(await asyncio.gather(*[start_child(member, number, count) for number in range(width)]))


def _token(number: int) -> int:
    return number * 7
