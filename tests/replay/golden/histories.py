"""Here lives the form in which golden histories are kept: a file for each, an event on each line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from continuum.declare.registry import REGISTRY
from continuum.model.decisions import Decision
from continuum.model.events import Event
from continuum.replay.execution import Entry, Execution, RunInfo
from tests.replay.golden import flows

__all__ = ["HERE", "Golden", "follow", "names", "read", "write"]

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PYTHON = Path(json.__file__).parents[1]


@dataclass(frozen=True)
class Golden:
    """A history, and what has to be known to replay it.

    :ivar what: the construct it is of.
    :ivar release: which wrote it.
    :ivar state: of the run.
    """

    name: str
    what: str
    release: str
    run: RunInfo
    state: str
    events: list[Event]

    @property
    def entry(self) -> Entry:
        assert flows  # which declares it
        return REGISTRY.get_workflow(self.run.workflow, self.run.version).entry


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.json"))


def read(name: str) -> Golden:
    found = json.loads((HERE / f"{name}.json").read_text())
    events = [
        Event(
            seq,
            line["type"],
            line.get("command"),
            line.get("name"),
            _text(line["payload"]) if "payload" in line else None,
            line["at"],
            line.get("location"),
        )
        for seq, line in enumerate(found["events"], 1)
    ]
    run = msgspec.convert(found["run"], RunInfo)
    return Golden(name, found["what"], found["release"], run, found["state"], events)


def write(golden: Golden) -> None:
    head = {
        "what": golden.what,
        "release": golden.release,
        "run": msgspec.to_builtins(golden.run),
        "state": golden.state,
    }
    lines = [_line(event) for event in golden.events]
    body = json.dumps(head, indent=2, ensure_ascii=False)[:-2]
    text = body + ',\n  "events": [\n    ' + ",\n    ".join(lines) + "\n  ]\n}\n"
    (HERE / f"{golden.name}.json").write_text(text)


def _line(event: Event) -> str:
    line: dict[str, Any] = {"type": str(event.type)}
    for field in ("command", "name"):
        if getattr(event, field) is not None:
            line[field] = getattr(event, field)
    if event.payload is not None:
        payload = _without_paths(event.payload)
        line["payload"] = json.loads(payload)
        # What is read back is what was stored, to the letter.
        assert _text(line["payload"]) == payload, payload
    line["at"] = event.at
    if event.location is not None:
        line["location"] = event.location
    return json.dumps(line, ensure_ascii=False)


def _text(payload: Any) -> str:
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":"))


def _without_paths(payload: str) -> str:
    """Return a payload whose tracebacks, which no replay compares, do not tell where it was recorded."""
    return payload.replace(f"{ROOT}/", "").replace(f"{PYTHON}/", "")


def follow(golden: Golden, events: Sequence[Event], *, inline: bool = True) -> Decision:
    """Return what today's code decides after these events. Raises as a replay does."""
    execution = Execution(entry=golden.entry, run=golden.run, inline=inline)
    try:
        execution.replay(events)
        return execution.decide()
    finally:
        execution.evict()
