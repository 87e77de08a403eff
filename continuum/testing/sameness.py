"""Here lives the comparison of two histories: whether two runs have done the same, whoever and whenever they were.

What belongs to the one run is left out: when, its ids, its seed (and with it what ``uuid4()`` drew), where an event
stands in the journal, and the lines of code and tracebacks that are told for people. What ``random()`` drew is not.
"""

import re
from typing import Final

import msgspec

from continuum.model.events import NOTES, Event, EventType
from continuum.testing.histories import Kept, dump_history

__all__ = ["assert_same_histories"]

_Fact = tuple[str, int | None, str | None, str | None]

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TRACEBACK: Final = re.compile(r'"traceback":"(?:[^"\\]|\\.)*"')
_parse: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def assert_same_histories(first: Kept, second: Kept) -> None:
    """Assert that two runs issued the same commands and saw the same completions in the same order.

    Takes what ``assert_replays`` takes. Raises ``AssertionError`` that shows the first difference.
    """
    __tracebackhide__ = True  # pytest shows the caller's line, and the message
    one, other = (_facts(list(dump_history(run).events)) for run in (first, second))
    for index, (mine, theirs) in enumerate(zip(one, other, strict=False), 1):
        if mine != theirs:
            message = f"the histories part at fact {index}: {_shown(mine)} in the first, {_shown(theirs)} in the second"
            raise AssertionError(message)
    if len(one) != len(other):
        longer, facts = ("first", one) if len(one) > len(other) else ("second", other)
        shorter = min(len(one), len(other))
        message = f"the {longer} history has {abs(len(one) - len(other))} more facts, next {_shown(facts[shorter])}"
        raise AssertionError(message)


def _facts(events: list[Event]) -> list[_Fact]:
    return [
        (str(event.type), event.command, event.name, _payload(event)) for event in events if event.type not in NOTES
    ]


def _payload(event: Event) -> str | None:
    payload = event.payload
    if payload is None:
        return None
    if event.type == EventType.RUN_STARTED:
        payload = bytes(_parse(payload)["input"]).decode()
    return _ID.sub("(id)", _TRACEBACK.sub('"traceback":""', payload))


def _shown(fact: _Fact) -> str:
    kind, command, name, payload = fact
    return " ".join(
        part
        for part in (
            kind,
            "" if command is None else f"#{command}",
            name or "",
            "" if payload is None else f"with {payload if len(payload) <= 200 else payload[:200] + '…'}",  # noqa: PLR2004
        )
        if part
    )
