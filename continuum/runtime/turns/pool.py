"""Here lives what the turns thread expects of an executor that runs in its process."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from continuum.model.ids import RunId
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskOutcome

__all__ = ["Pool"]


class Pool(Protocol):
    """The local pool as seen from the turns thread. No method blocks."""

    def reserve(self, order: TaskOrder) -> bool:
        """Whether a task may be inserted as claimed for this pool; if so, a place is kept for it."""

    def unreserve(self, order: TaskOrder) -> None:
        """Give back a place: the task was not inserted."""

    def submit(self, tasks: Sequence[ClaimedTask]) -> None:
        """Execute tasks whose places were reserved; their commit is acknowledged."""

    def cancel(self, run_id: RunId, command: int) -> None:
        """Nobody waits for this task any more."""

    def holding(self) -> set[tuple[RunId, int, int]]:
        """Return (run, command, attempt) of all that is queued, running, or delivered and not yet settled."""

    def settle(self, keys: Iterable[tuple[RunId, int, int]]) -> None:
        """The commit that holds these outcomes was acknowledged."""

    def hand_in(self, outcome: TaskOutcome) -> None:
        """Post an outcome as a message, in the background: its run is not (or no longer) ours."""
