"""What `continuum show` tells of runs that have children, undo what they did, or go on as others."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from continuum import Continuum, RunFailed
from continuum.cli import main
from continuum.cli.reasons import MOST_HISTORIES
from continuum.journal.memory.journal import MemoryJournal
from tests.support.eventually import eventually
from tests.unit.cli import kinsfolk
from tests.unit.cli.kinsfolk import URL


@pytest.fixture
def kin() -> Iterator[Continuum]:
    """Yield a running instance on the app's store, empty."""
    MemoryJournal.forget(URL.removeprefix("memory://"))
    with Continuum(URL, concurrency=2) as instance, instance.running():
        yield instance
    kinsfolk.continuum.close()


def show(run_id: str, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["-A", "tests.unit.cli.kinsfolk", "show", run_id, *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def told(run_id: str) -> list[dict[str, Any]]:
    """Return the findings."""
    found: list[dict[str, Any]] = json.loads(show(run_id, "--json"))["findings"]
    return found


def wait_for_leaves(kin: Continuum, number: int) -> None:
    where = {"workflow": "kin.leaf", "state": "suspended"}
    eventually(lambda: len(kin.search(where, limit=100).runs) == number)


def test_a_run_is_explained_by_the_last_of_those_it_waits_for(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.top, 1)
    wait_for_leaves(kin, 1)
    [middle] = kin.search({"workflow": "kin.middle"}).runs
    [leaf] = kin.search({"workflow": "kin.leaf"}).runs
    [finding] = told(handle.id)
    assert finding["weight"] == "fine"
    first, second, third = finding["text"].split("; it is suspended: ")
    assert first.startswith(f"waits for child kin.middle {middle.id} (tests/unit/cli/kinsfolk.py:")
    assert second.startswith(f"waits for child kin.leaf {leaf.id}, key 'leaf of 0' (tests/unit/cli/kinsfolk.py:")
    assert third.startswith("waits for signal go since ")


def test_of_many_children_few_histories_are_read(kin: Continuum, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = kin.start(kinsfolk.top, 30)
    wait_for_leaves(kin, 30)
    read: list[str] = []
    history = Continuum.history

    def counted(self: Continuum, run_id: str, **options: Any) -> Any:
        read.append(run_id)
        return history(self, run_id, **options)

    monkeypatch.setattr(Continuum, "history", counted)
    [finding] = told(handle.id)
    assert finding["text"] == "waits for 30 children (kin.middle): 30 suspended"
    assert len(read) <= 1 + MOST_HISTORIES


def test_a_child_whose_outcome_has_not_been_heard_needs_no_look(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.top, 2)
    wait_for_leaves(kin, 2)
    [one, _] = kin.search({"workflow": "kin.leaf"}).runs
    kin.signal(one.id, "go", "home")
    eventually(lambda: kin.get(one.id).ended)
    eventually(lambda: len(told(handle.id)) == 1)


def test_a_timeline_names_children_compensations_and_what_was_said(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.undone)
    assert handle.ask(kinsfolk.weight, 4, timeout=20) == 8
    with pytest.raises(RunFailed, match="rain"):
        handle.result(timeout=20)
    [child] = kin.search({"parent_id": handle.id}).runs
    text = " ".join(show(handle.id).split())
    for words in (
        "attributes done 0 ms tests/unit/cli/kinsfolk.py:",
        "activity kin.book done",
        'undone by #7 · "a room"',
        "published booked done",
        "child kin.leaf done",
        f"→ {child.id} · key 'only' · \"undone away\"",
        f'→ {child.id} · "away"',
        "sent signal go done",
        "answered weight done",
        "compensation kin.give_back done",
        "undoes #1",
    ):
        assert words in text, f"{words!r} is not in\n{text}"
    steps = json.loads(show(handle.id, "--json"))["steps"]
    assert [step["kind"] for step in steps] == [
        "attributes",
        "activity",
        "published",
        "child",
        "sent signal",
        "signal",
        "answered",
        "compensation",
    ]
    assert (steps[1]["undone_by"], steps[7]["undoes"], steps[3]["run"], steps[3]["key"]) == (7, 1, child.id, "only")


def test_a_child_says_whose_it_is(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.top, 1)
    wait_for_leaves(kin, 1)
    [middle] = kin.search({"parent_id": handle.id}).runs
    assert f"{handle.id} (when that ends: cancel)" in show(middle.id)


def test_a_continued_run_says_with_what_it_goes_on(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.chain, 1)
    assert handle.result(timeout=20) == 3
    text = " ".join(show(handle.id, "--this-run").split())
    assert "was continued" not in text
    assert f"run {handle.id}" in text
    assert "state continued" in text
    assert "goes on with [2]" in text
    assert f"continuum runs --where chain_id={handle.id}" in text
    assert json.loads(show(handle.id, "--this-run", "--json"))["ending"]["continued_with"] == [2]


def test_a_chain_is_shown_by_its_last_run(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.chain, 1)
    assert handle.result(timeout=20) == 3
    first, second, last = kin.search({"chain_id": handle.id}, order="created_at").runs
    for named in (first, second):
        note, *rest = show(named.id).splitlines()
        assert note.startswith(f"{named.id} was continued: this is {last.id}, the last run of chain {first.id} ")
        text = " ".join(" ".join(rest).split())
        assert "state completed" in text
        assert f"continued from {second.id}" in text
        assert "chain_id=" not in text
        assert "run_completed" in show(named.id, "--events")
        assert json.loads(show(named.id, "--json"))["run"]["id"] == last.id
    assert "was continued" not in show(last.id)
    assert show(last.id, "--this-run", "--json") == show(last.id, "--json")


def test_a_chain_is_looked_for_in_the_namespace_that_was_named(kin: Continuum) -> None:
    handle = kin.start(kinsfolk.chain, 1, namespace="eu")
    handle.result(timeout=20)
    assert "state completed" in " ".join(show(handle.id, "--namespace", "eu").split())
    assert CliRunner().invoke(main, ["-A", "tests.unit.cli.kinsfolk", "show", handle.id, "--namespace", "us"]).exit_code
