"""The runs below a run: children of its chain, and theirs, each as the tip of its own chain, none before its parent."""

import pytest

from continuum.errors import RunNotFound
from continuum.model.ids import RunId, WorkerId, new_run_id
from continuum.model.leases import ClaimedRun
from continuum.model.runs import ParentClose
from tests.support.families import bear, child_of, claim_children, continued, end_child
from tests.support.journals import Desk


def below(desk: Desk, run_id: RunId, *, namespace: str | None = None, limit: int = 100) -> list[RunId]:
    return [run.id for run in desk.journal.runs.descendants(run_id, namespace=namespace, limit=limit)]


def grow(desk: Desk, worker: WorkerId, run: ClaimedRun, count: int) -> list[ClaimedRun]:
    """Let the run start children, and return them."""
    bear(desk, worker, run, *(child_of(desk, run, command) for command in range(count)))
    return claim_children(desk, worker)


def test_a_run_without_children_has_nothing_below_it(desk: Desk) -> None:
    assert below(desk, desk.make_run()) == []


def test_generations_follow_each_other_and_brothers_are_in_the_order_of_their_ids(desk: Desk, worker: WorkerId) -> None:
    children = grow(desk, worker, root := desk.parked(worker), 3)
    grandchildren = [child for one in children[::-1] for child in grow(desk, worker, one, 2)]
    first, second = sorted(one.run_id for one in children), sorted(one.run_id for one in grandchildren)
    assert below(desk, root.run_id) == [*first, *second]
    assert sorted(below(desk, children[0].run_id)) == sorted(one.run_id for one in grandchildren[-2:])
    found = desk.journal.runs.descendants(root.run_id, limit=100)
    assert [run.parent_id for run in found[:3]] == [root.run_id] * 3
    assert found[0] == desk.run(found[0].id)


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 9])
def test_what_is_nearest_comes_first_if_there_is_too_much(desk: Desk, worker: WorkerId, limit: int) -> None:
    children = grow(desk, worker, root := desk.parked(worker), 3)
    for one in children:
        grow(desk, worker, one, 2)
    found = desk.journal.runs.descendants(root.run_id, limit=limit)
    assert len(found) == limit
    assert {run.id for run in found[:3]} <= {one.run_id for one in children}
    known = {root.run_id, *(run.id for run in found)}
    assert all(run.parent_id in known for run in found)


def test_ended_and_abandoned_children_are_below_it_too(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    orders = [child_of(desk, root, 0), child_of(desk, root, 1, close=ParentClose.ABANDON)]
    bear(desk, worker, root, *orders)
    ended, _ = claim_children(desk, worker)
    end_child(desk, worker, ended)
    assert below(desk, root.run_id) == sorted(one.id for one in orders)


def test_a_chain_stands_in_the_tree_once_as_its_tip(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    bear(desk, worker, root, child_of(desk, root, 0, workflow="order", version_hash="hash-1"))
    [child] = desk.claim(worker)
    child = continued(desk, worker, child)
    grandchildren = grow(desk, worker, child, 1)
    assert below(desk, root.run_id) == [child.run_id, grandchildren[0].run_id]


def test_children_stay_those_of_the_chain_when_their_parent_continues(desk: Desk, worker: WorkerId) -> None:
    root = desk.parked(worker)
    first = root.run_id
    ordered = child_of(desk, root, 0)
    root = continued(desk, worker, bear(desk, worker, root, ordered))
    assert below(desk, first) == below(desk, root.run_id) == [ordered.id]


def test_an_unknown_run_or_another_namespace_is_not_found(desk: Desk) -> None:
    run_id = desk.make_run(namespace="tenant-a")
    for target, namespace in ((run_id, "tenant-b"), (new_run_id(desk.now_us()), None)):
        with pytest.raises(RunNotFound):
            below(desk, target, namespace=namespace)
    assert below(desk, run_id, namespace="tenant-a") == []
