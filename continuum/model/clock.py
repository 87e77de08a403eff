"""Here lives the database's clock, estimated from its answers.

The host's wall clock is never trusted: it may be minutes off. Every answer of the database carries its
``clock_timestamp()``; between answers the host's monotonic clock carries the estimate on.
"""

import time

__all__ = ["DatabaseClock"]

# An estimate older than this is replaced by any newer one, however slow the round trip was: quartz drifts.
_STALE_US = 30_000_000


class DatabaseClock:
    """The present, in microseconds since the epoch, as the database would say it.

    Written by whoever gets an answer, read by anybody: both fields are replaced in one assignment, so a reader on
    another thread sees one estimate or the next, never a mixture.
    """

    __slots__ = ("_estimate",)

    def __init__(self) -> None:
        # (offset from the monotonic clock, round trip it was measured with, when) in µs.
        self._estimate: tuple[int, int, int] | None = None

    def observe(self, database_us: int, asked_us: int, answered_us: int) -> None:
        """Take in one answer: the database's time, and this host's monotonic time before and after asking."""
        trip = answered_us - asked_us
        known = self._estimate
        if known is None or trip <= known[1] or answered_us - known[2] > _STALE_US:
            self._estimate = (database_us - (asked_us + answered_us) // 2, trip, answered_us)

    @property
    def known(self) -> bool:
        """Whether the database has told the time yet."""
        return self._estimate is not None

    def now_us(self) -> int:
        """Return the estimated present. Raises ``RuntimeError`` before the first answer."""
        known = self._estimate
        if known is None:
            message = "the database has not told the time yet"
            raise RuntimeError(message)
        return self.monotonic_us() + known[0]

    @staticmethod
    def monotonic_us() -> int:
        """Return this host's monotonic clock in microseconds."""
        return time.monotonic_ns() // 1000
