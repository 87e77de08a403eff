"""A dispatcher is killed with SIGKILL right after it has claimed tasks that were free."""

import pytest

from continuum import Continuum
from tests.support.crash_runs import die_and_be_inherited
from tests.support.processes import Processes


@pytest.mark.timeout(90)
@pytest.mark.parametrize("nth", [1, 4])
def test_tasks_claimed_and_never_begun_are_run_by_another(
    continuum: Continuum,
    database_url: str,
    processes: Processes,
    nth: int,
) -> None:
    # Each run has an activity that fails once, so that a free task is claimed for its second attempt.
    die_and_be_inherited(continuum, database_url, processes, crash_at=f"offers.claimed:{nth}")
