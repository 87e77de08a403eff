"""Here lives how long hints of mail may wait for company.

While hundreds of tasks are out at the workers of an executor, their outcomes trickle in one by one, and answering each
with a reading of the mail, a commit and a message of its own costs the dispatcher and the database several times what
the same costs for ten together. Nobody is served by that haste: a task published now waits behind the others.

How long it waits is known by Little's law (J. D. C. Little, 1961): the tasks out there, divided by the outcomes per
second, are the mean time from publishing to outcome. Hints wait for a tenth of that at most, and never long enough to
be felt. Where only a few tasks are out, nobody waits for anything.
"""

import time
from collections.abc import Callable
from typing import Final

__all__ = ["Pace"]

# Below, a worker could be idle for want of a message, and the time of each step counts.
_FEW: Final = 16
_SHARE: Final = 0.1
_LONGEST: Final = 0.02
# Outcomes are counted over spans of this length; after a longer silence the count begins anew.
_SPAN: Final = 0.1
_SILENCE: Final = 1.0


class Pace:
    """Measures the outcomes per second."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since = now()
        self._count = 0
        self._rate = 0.0

    def arrived(self) -> None:
        """An outcome has come."""
        self._count += 1

    def pause(self, outstanding: int) -> float:
        """Return for how many seconds the next hints may wait while so many tasks are out."""
        span = self._now() - self._since
        if span >= _SPAN:
            rate = self._count / span if span < _SILENCE else 0.0
            self._rate = (rate + self._rate) / 2 if rate and self._rate else rate
            self._since, self._count = self._now(), 0
        if outstanding < _FEW or not self._rate:
            return 0.0
        return min(_LONGEST, _SHARE * outstanding / self._rate)
