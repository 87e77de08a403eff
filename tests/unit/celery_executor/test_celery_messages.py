"""The shape of a message: what is written can be read, and what is not ours is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from continuum.celery_executor.messages import Ask, celery_id, describe, parse_args, to_args
from continuum.model.ids import RunId
from continuum.model.tasks import TaskRef

RUN = RunId("0198c0de-0000-7000-8000-000000000001")
REF = TaskRef(RUN, 3, 2)


@given(
    st.text(min_size=1, max_size=20),
    st.integers(0, 10**6),
    st.integers(1, 10**6),
    st.text(min_size=1, max_size=20),
)
def test_what_is_written_can_be_read(instance: str, command: int, attempt: int, activity: str) -> None:
    ref = TaskRef(RUN, command, attempt)
    assert parse_args(to_args(instance, ref, activity)) == Ask(instance, ref, activity)


def test_the_celery_id_names_the_dispatch_so_that_no_two_messages_share_one() -> None:
    assert celery_id(REF, 1) == f"{RUN}.3.2.1"
    assert celery_id(REF, 1) != celery_id(REF, 2)


def test_people_see_run_command_and_attempt() -> None:
    assert describe(REF) == f"(run {RUN}, command 3, attempt 2)"


def test_arguments_of_later_releases_are_ignored() -> None:
    assert parse_args([*to_args("shop", REF, "charge"), {"new": True}]) == Ask("shop", REF, "charge")


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["shop", f"{RUN}.3", 2],
        [None, f"{RUN}.3", 2, "charge"],
        ["shop", RUN, 2, "charge"],
        ["shop", f"{RUN}.x", 2, "charge"],
        ["shop", f"{RUN}.-3", 2, "charge"],
        ["shop", f"{RUN}.²", 2, "charge"],
        ["shop", ".3", 2, "charge"],
        ["shop", f"{RUN}.3", "2", "charge"],
        ["shop", f"{RUN}.3", True, "charge"],
        ["shop", f"{RUN}.3", 0, "charge"],
        ["shop", f"{RUN}.3", 2, None],
        ["shop", f"{RUN}.3", 2**31, "charge"],
        ["shop", f"{RUN}.9999999999", 2, "charge"],
        ["shop", f"{'0' * 40}.3", 2, "charge"],
        ["shop", "not a run.3", 2, "charge"],
    ],
)
def test_what_is_not_ours_is_no_ask(args: list) -> None:
    assert parse_args(args) is None
