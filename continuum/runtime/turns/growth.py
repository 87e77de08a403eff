"""Here lives what the turns thread says about histories that have grown: who makes snapshots listens.

Nothing depends on it. It holds so much and no more, and forgets the oldest: a run whose turn is forgotten says so again
after as many events.
"""

import sys
from collections import deque
from collections.abc import Callable
from typing import Final

from continuum.model.ids import RunId

__all__ = ["Growth", "fold_at"]

_MOST: Final = 1_000
# A snapshot is written as a whole. With this share of what it holds as the least that is new, all those of a run take
# five times its history at most, however long it gets, and a load reads a fifth of it from rows at most.
_SHARE: Final = 4


def fold_at(threshold: int | None, folded: int) -> int:
    """Return the sequence number at which a run wants its next snapshot; beyond all numbers if it wants none.

    :param folded: through which its last one reaches, 0 if it has none.
    """
    return sys.maxsize if threshold is None else folded + max(threshold, folded // _SHARE)


class Growth:
    """Runs that want a snapshot, and runs that need theirs no more. One thread says, one takes.

    :ivar heard: called, on the turns thread, when something was said.
    """

    def __init__(self) -> None:
        self._grown: deque[RunId] = deque(maxlen=_MOST)
        self._ended: deque[RunId] = deque(maxlen=_MOST)
        self.heard: Callable[[], None] = _nobody

    def grew(self, run_id: RunId) -> None:
        """Say that the run wants a snapshot."""
        self._grown.append(run_id)
        self.heard()

    def ended(self, run_id: RunId) -> None:
        """Say that the run, which may have a snapshot, has ended."""
        self._ended.append(run_id)
        self.heard()

    def take_grown(self) -> RunId | None:
        """Return a run that wants a snapshot; None if there is none."""
        try:
            return self._grown.popleft()
        except IndexError:
            return None

    def take_ended(self) -> list[RunId]:
        """Return the runs that have ended."""
        found = []
        while self._ended:
            found.append(self._ended.popleft())
        return found


def _nobody() -> None:
    pass
