"""Here lives what is shown and kept: tables, the JSON of the last result, and the comparison with it.

The JSON holds one section per workload, each with the machine and the moment it was taken, so that one workload can be
measured again without the others.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.child import ROOT
from benchmarks.plan import OURS, TITLES

__all__ = ["LATEST", "compare", "load", "merge", "section_of", "table_of", "write", "write_readme"]

RESULTS = Path(__file__).parent / "results"
LATEST = RESULTS / "latest.json"
README = Path(__file__).parent / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
# What two machines must have in common for absolute figures to be compared.
IDENTITY = ("cpu", "cores", "python")
# Changes below this are noise.
NOISE = 0.10


def load(path: Path) -> dict[str, Any]:
    """Return a report, empty if there is none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def section_of(summary: Mapping[str, Any], records: Sequence[Mapping[str, Any]], taken: Mapping[str, Any]) -> Any:
    """Return the report of these rounds: summary, and everything it was made from."""
    when = {
        **taken,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "continuum")),
    }
    return {
        workload: {
            **found,
            "taken": when,
            "rounds": [record for record in records if record["workload"] == workload],
        }
        for workload, found in summary.items()
    }


def merge(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Return the old report with the newly measured workloads replaced."""
    return {workload: new.get(workload) or old[workload] for workload in TITLES if workload in {*old, *new}}


def write(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_readme(report: Mapping[str, Any]) -> None:
    """Put the tables where README.md has its marks."""
    text = README.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if begin and end:
        README.write_text(f"{before}{BEGIN}\n{table_of(report)}\n{END}{after}", encoding="utf-8")


# -- tables --------------------------------------------------------------------------------------


def table_of(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown that is readable as it is."""
    parts = []
    for workload, section in report.items():
        parts.append(f"\n### {TITLES[workload]}\n")
        parts.append(_rows(section["rows"]))
        if section["goals"]:
            parts.append("")
            parts.append(_goals(section["goals"]))
        parts.append(f"\n{_taken(section['taken'])}")
    return "\n".join(parts)


def _rows(rows: Mapping[str, Any]) -> str:
    names = list(dict.fromkeys(name for row in rows.values() for name in row["figures"]))
    lines = [["", *(_label(name) for name in names), "rounds", "foreign CPU, most"]]
    for title, row in rows.items():
        cells = [_span(row["figures"].get(name)) for name in names]
        loud = f" ({row['loud_rounds']} loud)" if row["loud_rounds"] else ""
        foreign = "?" if row["foreign"] is None else f"{row['foreign']:.2f}"
        lines.append([title, *cells, f"{row['rounds']}{loud}", foreign])
    failed = [f"- **{title} failed:** {row['error'].splitlines()[0]}" for title, row in rows.items() if "error" in row]
    return "\n".join([_markdown(lines), *failed])


def _goals(goals: Sequence[Mapping[str, Any]]) -> str:
    lines = [["goal", "median (range)", ""]]
    for goal in goals:
        verdict = {True: "met", False: "**missed**", None: "not measured"}[goal["met"]]
        lines.append([goal["goal"], _span({**goal, "median": goal["value"]}), verdict])
    return _markdown(lines)


def _taken(taken: Mapping[str, Any]) -> str:
    changed = " with uncommitted changes" if taken["dirty"] else ""
    return (
        f"{taken['cpu']}, {taken['cores']} cores, Python {taken['python']}, Postgres {taken['server_version']};"
        f" {taken['at'][:10]}, commit {taken['commit']}{changed}."
    )


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def row(line: Sequence[str]) -> str:
        padded = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([row(lines[0]), rule, *map(row, lines[1:])])


def _label(name: str) -> str:
    known = {
        "p50_ms": "p50, ms",
        "p95_ms": "p95, ms",
        "steps_per_s": "steps/s",
        "us_per_event": "µs/event",
        "us_per_step": "µs/step",
        "spread": "longest ÷ shortest",
        "first_ms": "first of a module, ms",
        "worst_ms": "slowest, ms",
        "unread_ms": "unread, ms",
        "second_ms": "another, ms",
        "cached_ms": "known, ms",
    }
    if name.startswith("us_per_step_"):
        return f"µs/step, n = {int(name.removeprefix('us_per_step_')):,}"
    if name.startswith("us_per_child_"):
        parents, children = name.removeprefix("us_per_child_").split("x")
        of = "" if parents == "1" else f"{parents} × "
        return f"µs/child, {of}{int(children):,}"
    return known.get(name, name)


def _span(value: Mapping[str, float] | None) -> str:
    if value is None or value["median"] is None:
        return "–"
    if value["low"] == value["high"]:
        return _number(value["median"])
    return f"{_number(value['median'])} ({_number(value['low'])}–{_number(value['high'])})"


def _number(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


# -- the last result -----------------------------------------------------------------------------


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return what has changed since the last result: goals always, our own figures on the same machine."""
    lines = []
    for workload, section in new.items():
        before = old.get(workload)
        if before is None:
            continue
        then = {goal["goal"]: goal for goal in before["goals"]}
        for goal in section["goals"]:
            past = then.get(goal["goal"])
            if past and past["value"] is not None and goal["value"] is not None:
                lines += _change(f"{workload} {goal['goal']}", past["value"], goal["value"])
        if any(before["taken"][name] != section["taken"][name] for name in IDENTITY):
            lines.append(f"{workload}: taken on another machine, so only ratios are compared")
            continue
        for title, row in section["rows"].items():
            past_row = before["rows"].get(title)
            if title.startswith(OURS) and past_row:
                for name, value in row["figures"].items():
                    if name in past_row["figures"]:
                        was = past_row["figures"][name]["median"]
                        lines += _change(f"{workload} {title}: {_label(name)}", was, value["median"])
    return "\n".join(lines) or f"nothing has changed by more than {NOISE:.0%}"


def _change(what: str, old: float, new: float) -> list[str]:
    if not old or abs(new / old - 1) < NOISE:
        return []
    return [f"{what}: {_number(old)} → {_number(new)} ({new / old - 1:+.0%})"]


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
