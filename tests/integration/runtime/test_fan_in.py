"""Many children of one run: what they cost in statements, and that each end of one is journaled once."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from continuum import Continuum, start_child
from continuum.declare.registry import Registry
from continuum.declare.workflows import Workflow
from continuum.journal.open import open_journal
from continuum.journal.protocol import Journal
from continuum.journal.requests import CommitRequest, Request
from continuum.model.events import EventType
from continuum.model.ids import RunId
from continuum.model.runs import RunState
from continuum.runtime.turns.desk import MAIL_LIMIT
from tests.integration.runtime import families
from tests.integration.runtime.families import children_of, family_of
from tests.integration.runtime.test_disasters import SETTINGS
from tests.support.eventually import eventually
from tests.support.watched import WatchedJournal

WAIT = 60
WIDTH = 600


def check_each_end_is_there_once(continuum: Continuum, run_id: str, count: int) -> None:
    events = continuum.history(run_id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    ends = Counter(event.command for event in events if event.type == EventType.CHILD_COMPLETED)
    assert ends == Counter(range(count))


def test_a_wide_family_costs_few_statements(journal: Journal) -> None:
    watched = WatchedJournal(journal)
    consuming: list[int] = []
    ordering: list[int] = []

    def note(request: Request) -> None:
        if isinstance(request, CommitRequest):
            ordering.extend(len(commit.decision.children) for commit in request.commits if commit.decision.children)
            consuming.extend(len(commit.consumed) for commit in request.commits if commit.consumed)

    watched.veto = note
    with Continuum(journal=watched, **SETTINGS) as instance, instance.running():
        handle = instance.start(families.wide, WIDTH)
        assert handle.result(timeout=WAIT) == sum(range(WIDTH)) * 2
    assert ordering == [WIDTH], "they are created by one commit"
    assert sum(consuming) == WIDTH
    # Each claim brings 64 of them, which end in a batch or two; what they say is read and journaled as often at most.
    batches = WIDTH / 64
    assert watched.sent["CommitRequest"] <= 6 * batches + 10
    assert len(consuming) <= 3 * batches + 10
    assert watched.sent["MailRequest"] <= 6 * batches + 20
    check_each_end_is_there_once(instance, handle.id, WIDTH)


def apart() -> tuple[Registry, Registry, Any]:
    """Return a registry with a parent of many, one with their code, and the parent."""
    parents, children = Registry(), Registry()

    async def child(value: int) -> int:
        return value

    async def parent(count: int) -> int:
        return sum(await asyncio.gather(*(start_child(declared_child, number) for number in range(count))))

    declared_child: Any = Workflow(child, name="families.far", version=1)
    declared_parent: Any = Workflow(parent, name="families.far_parent", version=1)
    parents.register_workflow(declared_parent)
    children.register_workflow(declared_child)
    return parents, children, declared_parent


def test_more_ends_than_one_reading_of_the_mail_holds_are_all_taken(journal: Journal) -> None:
    count = MAIL_LIMIT + 200
    parents, children, parent = apart()
    with (
        Continuum(journal=journal, registry=parents, **SETTINGS) as here,
        Continuum(journal=journal, registry=children, **SETTINGS) as there,
    ):
        with here.running():
            handle = here.start(parent, count)
            eventually(lambda: handle.refresh().state == RunState.SUSPENDED, WAIT)
        # All children end while nobody has the parent's code.
        with there.running():
            family = [RunId(child) for child in children_of(here, handle.id)]
            assert len(family) == count
            eventually(lambda: len(journal.runs.outcomes(family)) == count, WAIT)
        with here.running():
            assert handle.result(timeout=WAIT) == sum(range(count))
        check_each_end_is_there_once(here, handle.id, count)


def test_ends_that_come_from_elsewhere_while_their_parent_is_turned_are_all_taken(journal: Journal) -> None:
    count = MAIL_LIMIT + 200
    parents, children, parent = apart()
    with (
        Continuum(journal=journal, registry=parents, **SETTINGS) as here,
        Continuum(journal=journal, registry=children, **SETTINGS) as there,
        here.running(),
        there.running(),
    ):
        handle = here.start(parent, count)
        assert handle.result(timeout=WAIT) == sum(range(count))
        check_each_end_is_there_once(here, handle.id, count)


HOURLY: dict[str, Any] = {**SETTINGS, "poll_interval": timedelta(hours=1)}


@pytest.fixture(params=["memory", "postgres"])
def hearing(request: pytest.FixtureRequest) -> Iterator[Journal]:
    """Yield a journal whose hints all arrive."""
    opened = open_journal("memory://" if request.param == "memory" else request.getfixturevalue("database_url"))
    yield opened
    opened.close()


@pytest.mark.timeout(60)
def test_nothing_of_a_family_in_one_process_waits_for_a_poll(hearing: Journal) -> None:
    """The floor poll is an hour away: hints, and what a dispatcher knows of its own commits, are all there is."""
    with Continuum(journal=hearing, **HOURLY) as instance, instance.running():
        assert instance.start(families.gathered, 200).result(timeout=WAIT) == [number * 2 for number in range(200)]
        assert instance.start(families.with_chain, 20).result(timeout=WAIT) == 210
        assert instance.start(families.asking).result(timeout=WAIT) == "cancelled: cancelled"
        assert instance.start(families.signalling, 20).result(timeout=WAIT) == list(range(20))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_no_end_from_outside_waits_for_a_poll(hearing: Journal, how: str) -> None:
    with Continuum(journal=hearing, **HOURLY) as instance, instance.running():
        handle = instance.start(families.watching)
        eventually(lambda: len(family_of(instance, handle.id)) == 2, WAIT)
        getattr(instance, how)(children_of(instance, handle.id)[0])
        assert handle.result(timeout=WAIT) == ("cancelled: cancelled" if how == "cancel" else "cancelled: terminated")
        root = instance.start(families.tree, 2, 3)
        eventually(lambda: len(family_of(instance, root.id)) == 13, WAIT)
        family = [RunId(each) for each in family_of(instance, root.id)]
        getattr(root, how)()
        eventually(lambda: len(hearing.runs.outcomes(family)) == 13, WAIT)


@pytest.mark.timeout(60)
def test_nothing_of_a_family_in_two_dispatchers_waits_for_a_poll(hearing: Journal) -> None:
    parents, children, parent = apart()
    with (
        Continuum(journal=hearing, registry=parents, **HOURLY) as here,
        Continuum(journal=hearing, registry=children, **HOURLY) as there,
        here.running(),
        there.running(),
    ):
        assert here.start(parent, 200).result(timeout=WAIT) == sum(range(200))
        for _ in range(10):
            assert here.start(parent, 1).result(timeout=WAIT) == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("room", [1, 3, 70])
def test_nothing_of_a_family_that_does_not_fit_waits_for_a_poll(hearing: Journal, room: int) -> None:
    with (
        Continuum(journal=hearing, **HOURLY) as instance,
        instance.running(active_runs=room, cached_runs=room),
    ):
        assert instance.start(families.gathered, 40).result(timeout=WAIT) == [number * 2 for number in range(40)]
        assert instance.start(families.nested, 5).result(timeout=WAIT) == 5
