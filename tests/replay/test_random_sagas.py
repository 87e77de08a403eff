"""Random programs with sagas undo what has happened, nothing else, once, and replay as they were recorded."""

import pytest

from continuum.model.events import EventType
from tests.replay.sagas import drive
from tests.support.undoing import undone


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("first", range(0, 120, 30))
def test_no_program_undoes_twice_or_what_did_not_happen_or_leaves_something(first, cancel):
    rolled = 0
    for seed in range(first, first + 30):
        lab = drive(seed, cancel=cancel)
        succeeded = {e.command for e in lab.history if e.type == EventType.ACTIVITY_COMPLETED}
        forward = {e.command for e in lab.history if e.type == EventType.ACTIVITY_SCHEDULED}
        undoes = [command for _, _, command, _ in undone(lab)]
        rolled += len(undoes)
        assert len(undoes) == len(set(undoes)), (seed, undoes)
        assert set(undoes) <= succeeded & forward, seed
        if lab.history[-1].type in (EventType.RUN_FAILED, EventType.RUN_CANCELLED):
            # The outermost block was left by an error: everything that happened in it has been undone.
            withdrawn = {e.command for e in lab.history if e.type == EventType.ACTIVITY_CANCELLED}
            assert set(undoes) >= (succeeded & forward) - withdrawn, (seed, lab.failure if lab.history else None)
        lab.replays()
    assert rolled > 20
