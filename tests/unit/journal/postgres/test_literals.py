"""Whatever is written into the text of a statement comes out of it unchanged, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.errors import JournalError
from continuum.journal.postgres.literals import ids, integer, integers, sparse, text, texts, whole, words

HOSTILE = [
    "",
    " ",
    "'",
    "''",
    "\\",
    "\\'",
    '"',
    '\\"',
    "{}",
    '{"a": "b"}',
    "a,b",
    "null",
    "NULL",
    "None",
    "\x1e",
    "\x1f",
    "\x1e\x1f",
    '"\x1e"',
    "\n\r\t",
    "$1",
    "$$",
    "E'\\x'",
    "'; drop table continuum_runs; --",
    "%s %(a)s %%",
    '"\\u0000"',
    "Zürich 東京 🙂",
    "x" * 10_000,
]

characters = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
any_text = st.one_of(st.sampled_from(HOSTILE), st.text(characters))
with_nulls = st.lists(st.one_of(st.none(), any_text))


def unquote(literal: str) -> str:
    """Read a standard-conforming SQL string literal; it must end where it seems to end."""
    assert literal[0] == literal[-1] == "'"
    inside = literal[1:-1]
    assert "'" not in inside.replace("''", "")
    return inside.replace("''", "'")


def read_array(body: str) -> list[str | None]:
    """Read a one-dimensional array as Postgres does."""
    assert body[0] == "{"
    assert body[-1] == "}"
    found: list[str | None] = []
    at, end = 1, len(body) - 1
    while at < end:
        if body[at] == '"':
            piece = ""
            at += 1
            while body[at] != '"':
                at += body[at] == "\\"
                piece += body[at]
                at += 1
            found.append(piece)
            at += 1
        else:
            stop = at
            while stop < end and body[stop] not in ',"{}\\':
                stop += 1
            bare = body[at:stop]
            found.append(None if bare.lower() == "null" else bare)
            at = stop
        assert at == end or body[at] == ",", body[at:]
        at += 1
    return found


@given(any_text)
def test_a_text_comes_back(value: str) -> None:
    assert unquote(text(value)) == value


@given(with_nulls)
def test_an_array_of_texts_comes_back(values: list[str | None]) -> None:
    assert read_array(unquote(texts(values))) == values


@given(st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))))
def test_an_array_of_integers_comes_back(values: list[int | None]) -> None:
    found = read_array(unquote(integers(values)))
    assert [None if one is None else int(one) for one in found] == values


@given(st.lists(any_text))
def test_an_array_of_ids_never_leaves_its_literal(values: list[str]) -> None:
    assert unquote(ids(values)) == "{" + ",".join(values) + "}"


def test_nothing_is_null() -> None:
    assert text(None) == "null"
    assert integer(None) == "null"
    assert texts([]) == integers([]) == ids([]) == words([]) == "'{}'"


def test_a_sparse_column_without_a_value_is_left_out() -> None:
    assert sparse([None, None]) == "'{}'"
    assert read_array(unquote(sparse([None, "a"]))) == [None, "a"]


def test_an_integer_that_is_none_stays_out_of_the_text() -> None:
    with pytest.raises(ValueError):
        integer("1; drop table continuum_runs")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["a\0b", "\ud800", "ok \udfff"])
def test_what_no_column_can_hold_is_refused_before_it_is_sent(value: str) -> None:
    with pytest.raises(JournalError):
        whole(text(value))


@given(any_text)
def test_all_other_text_may_travel(value: str) -> None:
    assert whole(text(value)) == text(value)
