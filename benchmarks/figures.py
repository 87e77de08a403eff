"""Here live the few statistics the benchmarks need."""

import statistics
import time
from collections.abc import Callable, Sequence

__all__ = ["latency", "median", "quantile", "timed"]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which ``share`` of the values lie (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def latency(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50 and p95 in milliseconds."""
    return {
        "p50_ms": round(quantile(seconds, 0.5) * 1e3, 3),
        "p95_ms": round(quantile(seconds, 0.95) * 1e3, 3),
    }


def timed(call: Callable[[], object], times: int, *, warm: int = 0, pause: float = 0.0) -> list[float]:
    """Return how long each of ``times`` calls took, after ``warm`` unmeasured ones."""
    for _ in range(warm):
        call()
    taken = []
    for _ in range(times):
        if pause:
            time.sleep(pause)
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken
