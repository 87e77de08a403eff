"""What open runs have answered to patched(), as a journal counts them."""

from continuum.model.events import EventType
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun
from continuum.model.patches import PatchUse
from tests.support.families import continued
from tests.support.journals import Desk, event


def mark(desk: Desk, worker: WorkerId, run: ClaimedRun, *patches: str) -> ClaimedRun:
    for number, patch in enumerate(patches):
        run = desk.write(worker, run, event(EventType.PATCH_MARKED, command=number, name=patch))
    return run


def begun(desk: Desk, worker: WorkerId, version_hash: str = "h1", version: int = 1) -> ClaimedRun:
    return desk.began(worker, desk.fresh(worker, version_hash=version_hash, version=version))


def counted(desk: Desk) -> list[tuple[object, ...]]:
    return [
        (use.workflow, use.version, use.version_hash, use.began, use.adopted, use.patches, use.runs)
        for use in desk.journal.runs.patches()
    ]


def test_without_runs_there_is_nothing_to_count(desk: Desk) -> None:
    assert list(desk.journal.runs.patches()) == []


def test_runs_that_are_alike_are_counted_together(desk: Desk, worker: WorkerId) -> None:
    for _ in range(2):
        mark(desk, worker, begun(desk, worker), "b", "a")
    mark(desk, worker, begun(desk, worker), "a")
    begun(desk, worker)
    begun(desk, worker, "h2")
    mark(desk, worker, begun(desk, worker, version=2), "ünï'")
    desk.make_run(version_hash="h1")
    assert counted(desk) == [
        ("order", 1, "h1", False, False, (), 1),
        ("order", 1, "h1", True, False, (), 1),
        ("order", 1, "h1", True, False, ("a",), 1),
        ("order", 1, "h1", True, False, ("a", "b"), 2),
        ("order", 1, "h2", True, False, (), 1),
        ("order", 2, "h1", True, False, ("ünï'",), 1),
    ]
    assert isinstance(desk.journal.runs.patches()[0], PatchUse)


def test_a_run_that_has_adopted_other_code_says_so_for_ever(desk: Desk, worker: WorkerId) -> None:
    run = begun(desk, worker)
    run = desk.write(worker, run, event(EventType.VERSION_ADOPTED, name="h2"), adopted_hash="h2")
    mark(desk, worker, run, "a")
    assert counted(desk) == [("order", 1, "h2", True, True, ("a",), 1)]


def test_runs_that_have_ended_do_not_count_and_stuck_ones_do(desk: Desk, worker: WorkerId) -> None:
    desk.end(worker, mark(desk, worker, begun(desk, worker), "a"))
    assert counted(desk) == []
    assert desk.stick(worker, begun(desk, worker))
    assert counted(desk) == [("order", 1, "h1", True, False, (), 1)]


def test_of_a_chain_the_last_run_counts(desk: Desk, worker: WorkerId) -> None:
    run = mark(desk, worker, begun(desk, worker), "a")
    run = continued(desk, worker, run)
    assert [use.patches for use in desk.journal.runs.patches()] == [()]
    mark(desk, worker, run, "b")
    assert [use.patches for use in desk.journal.runs.patches()] == [("b",)]
