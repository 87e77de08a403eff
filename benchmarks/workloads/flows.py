"""Here lives what is run: steps that do nothing, so that only the engine is measured.

Every contender's steps return the same small object, and every contender encodes it in its own way.
"""

import os
from typing import Any

from continuum import Continuum, activity, patched, side_effect, workflow

__all__ = ["RESULT", "continuum", "mix", "noop", "refund", "steps"]

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


def _token(number: int) -> int:
    return number * 7
