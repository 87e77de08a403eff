"""Here lives what many rounds come to: medians, ratios within rounds, and whether the goals are met."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.figures import median
from benchmarks.plan import GOALS, Goal
from benchmarks.rounds import LOUD

__all__ = ["judge", "summarize"]

Records = Sequence[dict[str, Any]]
# Workload, row, figure → the figure's value in each round.
Values = dict[tuple[str, str, str], dict[int, float]]


def summarize(records: Records) -> dict[str, Any]:
    """Return ``{workload: {"rows": {row: {...}}, "goals": [...]}}``."""
    values = _collect(records)
    summary: dict[str, Any] = {}
    for record in records:
        rows = summary.setdefault(record["workload"], {"rows": {}, "goals": []})["rows"]
        row = rows.setdefault(
            record["row"], {"figures": {}, "rounds": 0, "loud_rounds": 0, "foreign": None, "verified": None}
        )
        if record.get("error"):
            row["error"] = record["error"]
            continue
        row["rounds"] += 1
        foreign = record["load"]["foreign"]
        row["loud_rounds"] += foreign is not None and foreign > LOUD
        row["foreign"] = max((value for value in (row["foreign"], foreign) if value is not None), default=None)
        row["verified"] = record["verified"]
        row["detail"] = record.get("detail", {})
    for (workload, row, figure), by_round in values.items():
        each = list(by_round.values())
        summary[workload]["rows"][row]["figures"][figure] = {
            "median": median(each),
            "low": min(each),
            "high": max(each),
        }
    for goal in GOALS:
        if goal.workload in summary:
            summary[goal.workload]["goals"].append(judge(goal, values))
    return summary


def judge(goal: Goal, values: Values) -> dict[str, Any]:
    """Return the goal with the median of its value in each round, and whether that meets it (None: not measured)."""
    each = list(_by_round(goal, values))
    verdict: dict[str, Any] = {"goal": goal.text, "value": None, "low": None, "high": None, "met": None}
    if each:
        value = median(each)
        met = value <= goal.bound if goal.relation == "<=" else value >= goal.bound
        verdict |= {"value": round(value, 3), "low": round(min(each), 3), "high": round(max(each), 3), "met": met}
    return verdict


def _by_round(goal: Goal, values: Values) -> Iterable[float]:
    above = _best(goal.workload, goal.figure, values)
    if goal.over is None:
        yield from above.values()
        return
    below = _best(goal.workload, goal.over, values)
    for number, value in above.items():
        if below.get(number):
            yield value / below[number]


def _best(workload: str, figure: str, values: Values) -> dict[int, float]:
    """Return the best of the rows in each round; for a rate that is the highest, for a time the lowest."""
    names, _, figure = figure.rpartition("/")
    choose = max if figure.endswith("_per_s") else min
    found: defaultdict[int, list[float]] = defaultdict(list)
    for name in names.split("|"):
        for number, value in values.get((workload, name, figure), {}).items():
            found[number].append(value)
    return {number: choose(each) for number, each in found.items()}


def _collect(records: Records) -> Values:
    values: defaultdict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for record in records:
        for figure, value in record.get("figures", {}).items():
            values[record["workload"], record["row"], figure][record["round"]] = value
    return dict(values)
