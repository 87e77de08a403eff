"""The promise to every run in a database: what a release has written, later ones replay. See golden/README.md."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import pytest

from continuum import Continuum, continue_as_new
from continuum.client import starts
from continuum.errors import ReplayDriftError
from continuum.model.codec import same_payload
from continuum.model.decisions import Decision
from continuum.model.events import COMMANDS, COMPLETIONS, Event, EventType
from continuum.model.runs import LOOP_VERSION, Started
from continuum.replay import endings
from continuum.replay.effects import child
from tests.replay.golden import flows
from tests.replay.golden.histories import Golden, follow, names, read
from tests.replay.golden.record import SCENARIOS
from tests.replay.lab import Lab, kid, refolded

ROOT = Path(__file__).parents[2]
NAMES = names()
# What the code of a run does not write: it comes from outside.
FOREIGN = COMPLETIONS | {
    EventType.RUN_STARTED,
    EventType.RUN_TERMINATED,
    EventType.VERSION_ADOPTED,
    EventType.MESSAGE_UNDELIVERABLE,
}

# The command by which the code that was replaced had passed a patch of today's, where it is not the first.
PASSED = {"patched_gather_before": 4}


@cache
def golden(name: str) -> Golden:
    return read(name)


def follow_up(kept: Golden, cut: int, *, inline: bool = True, through: int = 0) -> Decision:
    """Replay the first events; assert that today's code goes on as it did, up to what came from outside next.

    :param through: how many of them come from a snapshot.
    """
    decision = follow(kept, refolded(kept.events[:cut], through), inline=inline)
    rest = iter(event for event in kept.events[cut:] if event.type != EventType.VERSION_ADOPTED)
    recorded = []
    for event in rest:
        if event.type in FOREIGN:
            break
        recorded.append(event)
    assert [shown(event) for event in decision.events] == [shown(event) for event in recorded], cut
    return decision


def cuts(kept: Golden) -> range:
    """Return how many events a prefix may have."""
    types = [event.type for event in kept.events]
    if "version_adopted" not in types:
        return range(1, len(types))
    # Code that was adopted asks about its patch as soon as it may; what the run had done by then answers it.
    commands = [place for place, kind in enumerate(types) if kind in COMMANDS]
    return range(commands[PASSED.get(kept.name, 0)] + 1, len(types))


def shown(event: Event) -> list[object]:
    return [str(event.type), event.command, event.name, _without_traceback(event.payload), event.at]


def _without_traceback(payload: str | None) -> str | None:
    # A traceback tells lines of this release; what replay compares of a failure, and nothing else, is the rest of it.
    return None if payload is None else re.sub(r'"traceback":"(?:[^"\\]|\\.)*"', '"traceback":""', payload)


@pytest.mark.parametrize("name", NAMES)
def test_a_golden_history_replays_to_its_end(name: str) -> None:
    kept = golden(name)
    for inline in (True, False):
        for through in (0, len(kept.events) // 2, len(kept.events)):
            decision = follow(kept, refolded(kept.events, through), inline=inline)
            assert decision.events == []
            assert not decision.reaches_out
            assert decision.orders == []
            assert decision.state == kept.state


@pytest.mark.parametrize("name", NAMES)
def test_from_every_prefix_todays_code_goes_on_as_was_recorded(name: str) -> None:
    kept = golden(name)
    for cut in cuts(kept):
        follow_up(kept, cut)
        follow_up(kept, cut, inline=False)
        follow_up(kept, cut, through=1 + cut * 2 // 3)


def test_from_every_prefix_in_processes_with_other_hashes() -> None:
    """Raises in the process, or answers with all that is decided there."""
    script = (
        "from tests.replay.test_golden import *; import hashlib\n"
        "told = [[shown(e) for e in follow_up(golden(name), cut).events]\n"
        "        for name in NAMES for cut in cuts(golden(name))]\n"
        "print(hashlib.sha256(json.dumps(told).encode()).hexdigest())\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in ("1", "4242")
    ]
    told = [process.communicate(timeout=60)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert told[0] == told[1]
    assert told[0]


def tampered(event: Event) -> list[Event]:
    """Return what a command could have been instead."""
    replace = msgspec.structs.replace
    other = EventType.TIMER_STARTED if event.type != EventType.TIMER_STARTED else EventType.SIGNAL_AWAITED
    changed = [replace(event, name=f"{event.name} tampered"), replace(event, type=other.value)]
    if event.type == EventType.PATCH_MARKED:
        return changed  # a marker has no payload, and nobody looks for one
    changed.append(replace(event, payload="0" if event.payload is None else f"[{event.payload}]"))
    value = json.loads(event.payload or "null")
    if isinstance(value, dict) and event.type != EventType.VALUE_RECORDED:
        changed += [replace(event, payload=json.dumps({k: v for k, v in value.items() if k != key})) for key in value]
    return changed


@pytest.mark.parametrize("name", NAMES)
def test_a_history_with_any_command_changed_drifts(name: str) -> None:
    kept = golden(name)
    for index, event in enumerate(kept.events):
        if event.type not in COMMANDS:
            continue
        for changed in tampered(event):
            history = [*kept.events[:index], changed, *kept.events[index + 1 :]]
            for through in (0, index + 1):
                with pytest.raises(ReplayDriftError):
                    follow(kept, refolded(history, through))
        with pytest.raises(ReplayDriftError):
            follow(kept, kept.events[:index] + kept.events[index + 1 :])


@pytest.mark.parametrize("name", NAMES)
def test_a_history_with_another_end_drifts(name: str) -> None:
    kept = golden(name)
    for index, event in enumerate(kept.events):
        if event.type in {EventType.RUN_COMPLETED, EventType.RUN_CONTINUED}:
            changed = msgspec.structs.replace(event, payload=f"[{event.payload}]")
            with pytest.raises(ReplayDriftError):
                follow(kept, [*kept.events[:index], changed])


def test_every_construct_has_its_history() -> None:
    assert set(NAMES) == set(SCENARIOS), "see golden/README.md"
    assert len(NAMES) >= 46
    for name in NAMES:
        assert golden(name).release
        assert golden(name).what == SCENARIOS[name][0]


def test_every_kind_of_event_occurs_in_a_golden_history() -> None:
    found = {event.type for name in NAMES for event in golden(name).events}
    assert {kind.value for kind in EventType} - found == set()


def test_what_is_read_from_a_file_is_what_stands_in_it() -> None:
    """Otherwise a replay of something else would prove nothing."""
    for name in NAMES:
        found = json.loads((ROOT / "tests/replay/golden" / f"{name}.json").read_text())
        assert len(found["events"]) == len(golden(name).events)
        for line, event in zip(found["events"], golden(name).events, strict=True):
            assert line["type"] == event.type
            assert ("payload" in line) == (event.payload is not None)
            assert event.payload is None or same_payload(event.payload, json.dumps(line["payload"]))


STARTED = (
    '{"input":[7],"seed":"00ff","loop_version":2,"codec_version":3,"max_payload":4096,"depth":3,"max_depth":5,'
    '"family":true,"signals":[["go",{"n":1}],["go",null]]}'
)


def test_run_started_is_read_as_it_was_written() -> None:
    full = Started(
        input=msgspec.Raw(b"[7]"),
        seed="00ff",
        loop_version=2,
        codec_version=3,
        max_payload=4096,
        depth=3,
        max_depth=5,
        family=True,
        signals=(("go", msgspec.Raw(b'{"n":1}')), ("go", msgspec.Raw(b"null"))),
    )
    assert Started.parse(STARTED) == full
    assert full.encode() == STARTED


def test_what_run_started_does_not_say_keeps_its_meaning() -> None:
    """Defaults are not written, so none of them may ever change: not that of the loop's version, above all."""
    least = Started.parse('{"input":[],"seed":"00"}')
    assert msgspec.structs.asdict(least) == {
        "input": msgspec.Raw(b"[]"),
        "seed": "00",
        "loop_version": 1,
        "codec_version": 1,
        "max_payload": 2 * 1024 * 1024,
        "depth": 0,
        "max_depth": 10,
        "family": False,
        "signals": (),
    }
    assert Started.__struct_defaults__[0] == 1


def test_the_histories_say_which_loop_wrote_them() -> None:
    """All of the loop's versions must be able to replay theirs; today there is one."""
    assert LOOP_VERSION == 1
    assert {Started.parse(golden(name).events[0].payload or "").loop_version for name in NAMES} == {1}


def test_who_starts_a_run_writes_down_the_loop_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (child, endings, starts):
        monkeypatch.setattr(module, "LOOP_VERSION", 2)

    async def parent() -> None:
        kid("child")
        continue_as_new()

    lab = Lab(parent).begin()
    [decision] = lab.decisions
    assert decision.successor is not None
    assert [
        Started.parse(text).loop_version for text in (decision.children[0].started, decision.successor.started)
    ] == [
        2,
        2,
    ]
    with Continuum("memory://") as continuum:
        handle = continuum.start(flows.patient)
        assert Started.parse(handle.history()[0].payload or "").loop_version == 2
