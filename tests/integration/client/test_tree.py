"""A run with all that it has started: read as a tree, and ended from the top, abandoned children included."""

import asyncio
from typing import Any

import pytest

from continuum import Continuum, start_child, wait_signal, workflow
from continuum.client.trees import RunTree
from continuum.errors import ConfigError, RunNotFound, RunTerminal, SearchError
from continuum.model.runs import RunState
from tests.integration.client import flows
from tests.support.eventually import eventually

WAIT = 20.0


@workflow(name="tree.leaf")
async def leaf() -> None:
    await wait_signal("never")


@workflow(name="tree.node")
async def node(widths: list[int], policy: str = "abandon") -> None:
    """Start children, as many as the first number says; each starts as many as the next one does."""
    for _ in range(widths[0]):
        if len(widths) > 1:
            start_child(node, widths[1:], policy, on_parent_close=policy)
        else:
            start_child(leaf, on_parent_close=policy)
    await wait_signal("never")


def grown(continuum: Continuum, widths: list[int], count: int, **options: Any) -> Any:
    """Start a tree and wait until all of it waits."""
    handle = continuum.start(node, widths, **options)

    def stands() -> bool:
        runs = list(handle.tree())
        return len(runs) == count and all(run.state is RunState.SUSPENDED for run in runs)

    eventually(stands, WAIT)
    return handle


def states(tree: RunTree) -> list[str]:
    return [str(run.state) for run in tree]


def test_a_run_alone_is_a_tree(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    tree = handle.tree()
    assert (tree.run, tree.children, tree.cut, len(tree)) == (handle.refresh(), (), False, 1)


def test_a_tree_has_every_run_once_below_its_parent(continuum: Continuum) -> None:
    with continuum.running():
        handle = grown(continuum, [2, 3], 9)
        tree = continuum.tree(handle.id)
        assert tree.run.id == handle.id
        assert [len(child.children) for child in tree.children] == [3, 3]
        assert all(below.run.parent_id == child.run.id for child in tree.children for below in child.children)
        assert len({run.id for run in tree}) == len(tree) == 9
        assert continuum.tree(tree.children[1].run.id) == tree.children[1]
        handle.terminate(cascade=True)


def test_a_tree_that_is_too_large_is_cut_and_says_so(continuum: Continuum) -> None:
    with continuum.running():
        handle = grown(continuum, [2, 2], 7)
        for limit, size, cut in ((1, 2, True), (2, 3, True), (5, 6, True), (6, 7, False), (7, 7, False)):
            tree = handle.tree(limit=limit)
            assert (len(tree), tree.cut) == (size, cut)
        handle.terminate(cascade=True)
    for wrong in (0, True, 10_001, "5"):
        with pytest.raises(SearchError, match="limit"):
            handle.tree(limit=wrong)


def test_cancel_with_cascade_asks_all_of_them_parents_first(continuum: Continuum) -> None:
    with continuum.running():
        handle = grown(continuum, [2, 2], 7)
        generations = [{handle.id}, {c.run.id for c in handle.tree().children}]
        reached = handle.cancel(cascade=True)
        assert len(reached) == len(set(reached)) == 7
        assert {reached[0]} == generations[0]
        assert set(reached[1:3]) == generations[1]
        eventually(lambda: states(handle.tree()) == ["cancelled"] * 7, WAIT)


def test_cancel_without_it_leaves_abandoned_children_alone(continuum: Continuum) -> None:
    with continuum.running():
        handle = grown(continuum, [2], 3)
        assert handle.cancel() == [handle.id]
        eventually(lambda: handle.refresh().state is RunState.CANCELLED, WAIT)
        assert states(handle.tree()) == ["cancelled", "suspended", "suspended"]
        # The run at the top has ended, and what it has left behind is still below it.
        with pytest.raises(RunTerminal):
            handle.cancel()
        reached = continuum.cancel(handle.id, cascade=True)
        assert sorted(reached) == sorted(child.run.id for child in handle.tree().children)
        eventually(lambda: states(handle.tree()) == ["cancelled"] * 3, WAIT)
        assert handle.cancel(cascade=True) == handle.terminate(cascade=True) == []


@pytest.mark.parametrize("policy", ["abandon", "cancel", "terminate"])
def test_terminate_with_cascade_ends_all_of_them(continuum: Continuum, policy: str) -> None:
    with continuum.running():
        handle = continuum.start(node, [2, 2], policy)
        eventually(lambda: states(handle.tree()) == ["suspended"] * 7, WAIT)
        reached = handle.terminate("the whole lot", cascade=True)
        assert reached[0] == handle.id
        tree = handle.tree()
        assert states(tree)[0] == "terminated"
        eventually(lambda: all(run.ended for run in handle.tree()), WAIT)
        if policy != "cancel":  # a child that was told to cancel itself may have been faster
            assert states(handle.tree()) == ["terminated"] * 7


def test_nobody_runs_them_and_they_are_ended_all_the_same(continuum: Continuum) -> None:
    with continuum.running():
        handle = grown(continuum, [2, 1], 5)
    reached = handle.terminate(cascade=True)
    assert len(reached) == 5
    assert states(handle.tree()) == ["terminated"] * 5


def test_a_tree_is_bound_to_the_namespace_if_one_is_given(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever, namespace="eu")
    guarded = continuum.handle(handle.id, namespace="us")
    for ask in (
        guarded.tree,
        lambda: guarded.cancel(cascade=True),
        lambda: guarded.terminate(cascade=True),
        lambda: continuum.tree("0190a6f0-0000-7000-8000-000000000001"),
        lambda: continuum.terminate("order-1", cascade=True),
    ):
        with pytest.raises(RunNotFound):
            ask()
    assert not handle.refresh().ended
    assert continuum.tree(handle.id, namespace="eu").run.id == handle.id


def test_a_cascade_cannot_ride_in_a_transaction(continuum: Continuum) -> None:
    handle = continuum.start(flows.forever)
    with pytest.raises(ConfigError, match="cascade"):
        handle.cancel(cascade=True, connection=object())


def test_the_twins_cascade(continuum: Continuum) -> None:
    async def main() -> None:
        handle = await continuum.aio.start(flows.forever)
        assert await handle.cancel(cascade=True) == [handle.id]
        assert await continuum.aio.terminate(handle.id, cascade=True) == [handle.id]

    asyncio.run(main())
