"""The form of snapshots: what goes in comes out, to the letter, and what is none is called so."""

import json
import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.errors import HistoryError
from continuum.model.events import Event, EventType
from continuum.model.snapshots import SNAPSHOT_FORMAT, Snapshot, decode_snapshot, encode_snapshot, is_readable

STARTED = Event(1, EventType.RUN_STARTED, None, None, '{"input":[],"seed":"00"}', 1_700_000_000_000_000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
EVENTS = st.lists(
    st.builds(
        Event,
        st.just(0),
        st.sampled_from(list(EventType)),
        st.none() | st.integers(0, 10**6),
        st.none() | TEXTS,
        st.none() | TEXTS | st.sampled_from(["null", '{"a": 1,\n "b":"\\u0000\\"x"}']),
        st.integers(0, 2**62),
        st.none() | TEXTS,
    ),
    max_size=30,
)


def numbered(events: list[Event]) -> list[Event]:
    return [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate([STARTED, *events], 1)]


def changed(snapshot: Snapshot, **columns: Any) -> Snapshot:
    return msgspec.structs.replace(snapshot, body=json.dumps({**json.loads(snapshot.body), **columns}))


@given(EVENTS)
def test_what_is_folded_unfolds_to_the_letter(events: list[Event]) -> None:
    history = numbered(events)
    snapshot = encode_snapshot(history)
    assert (snapshot.through_seq, snapshot.format) == (len(history), SNAPSHOT_FORMAT)
    assert decode_snapshot(snapshot) == history


def test_unfolded_events_hold_plain_text_for_types_as_rows_do() -> None:
    [event] = decode_snapshot(encode_snapshot([STARTED]))
    assert type(event.type) is str
    assert event.type == EventType.RUN_STARTED


def test_what_repeats_is_written_once() -> None:
    step = Event(0, EventType.ACTIVITY_SCHEDULED, 1, "a long name of an activity", "[]", 2, "app/flows.py:17")
    body = encode_snapshot(numbered([step] * 100)).body
    assert body.count("a long name") == body.count("flows.py") == 1
    assert len(body) < 100 * 20


def test_a_snapshot_can_be_extended_by_what_came_after() -> None:
    history = numbered([Event(0, EventType.VALUE_RECORDED, n, f"v{n}", str(n), n) for n in range(20)])
    first = encode_snapshot(history[:7])
    assert encode_snapshot([*decode_snapshot(first), *history[7:]]) == encode_snapshot(history)


def test_the_first_format_is_what_it_was() -> None:
    """A snapshot that a release has written is read by every later one."""
    body = (
        '{"shapes":[["run_started",null,null],["value_recorded","v","f.py:3"]],"shape":[0,1,1],'
        '"command":[null,0,1],"payload":["{}","1",null],"at":[5,2,-1]}'
    )
    assert decode_snapshot(Snapshot(3, 1, body)) == [
        Event(1, EventType.RUN_STARTED, None, None, "{}", 5),
        Event(2, EventType.VALUE_RECORDED, 0, "v", "1", 7, "f.py:3"),
        Event(3, EventType.VALUE_RECORDED, 1, "v", None, 6, "f.py:3"),
    ]
    assert encode_snapshot(decode_snapshot(Snapshot(3, 1, body))).body == body


@pytest.mark.parametrize("number", [0, -1, SNAPSHOT_FORMAT + 1])
def test_a_format_of_another_release_is_refused_by_its_number(number: int) -> None:
    assert not is_readable(number)
    with pytest.raises(HistoryError, match=rf"format {number}, and this release reads {SNAPSHOT_FORMAT}"):
        decode_snapshot(msgspec.structs.replace(encode_snapshot([STARTED]), format=number))


@pytest.mark.parametrize("body", ["", "nonsense", "[]", "{}", "null", '{"shapes":[]}', '{"$wrapped":["zlib","eJw="]}'])
def test_what_is_no_snapshot_is_called_so(body: str) -> None:
    with pytest.raises(HistoryError, match="this is no snapshot"):
        decode_snapshot(Snapshot(1, SNAPSHOT_FORMAT, body))


@pytest.mark.parametrize(
    "columns",
    [
        {"at": [1]},
        {"command": []},
        {"payload": ["1", "2", "3"]},
        {"shape": [0, 7]},
        {"shape": [0, -1]},
        {"shape": [1, 0]},
        {"shape": [], "command": [], "payload": [], "at": []},
        {"shapes": []},
        {"surplus": 1},
    ],
)
def test_columns_that_do_not_fit_each_other_are_no_snapshot(columns: dict[str, Any]) -> None:
    snapshot = encode_snapshot(numbered([Event(0, EventType.RUN_BEGAN, None, None, None, 2)]))
    with pytest.raises(HistoryError, match="this is no snapshot"):
        decode_snapshot(changed(snapshot, **columns))


def test_a_snapshot_that_holds_other_events_than_its_row_says_is_none() -> None:
    with pytest.raises(HistoryError, match="no snapshot of 2 events"):
        decode_snapshot(msgspec.structs.replace(encode_snapshot([STARTED]), through_seq=2))


def test_only_the_beginning_of_a_history_can_be_folded() -> None:
    later = Event(2, EventType.RUN_BEGAN, None, None, None, 2)
    with pytest.raises(HistoryError, match="begins with run_started"):
        encode_snapshot([])
    with pytest.raises(HistoryError, match="begins with run_started"):
        encode_snapshot([later])
    with pytest.raises(HistoryError, match="have a gap"):
        encode_snapshot([STARTED, msgspec.structs.replace(later, seq=3)])


def test_a_refusal_survives_pickling() -> None:
    with pytest.raises(HistoryError) as caught:
        decode_snapshot(Snapshot(1, SNAPSHOT_FORMAT, ""))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
