"""Here lives the harness' clock. It stands still until it is set, and is never set back."""

from datetime import UTC, datetime, timedelta
from typing import Final

from continuum.errors import ConfigError

__all__ = ["VirtualClock", "micros", "moment"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class VirtualClock:
    """The present of one harness. Calling it returns microseconds since the epoch, as a journal asks for them.

    :param start: an aware datetime; by default the real present.
    """

    def __init__(self, start: datetime | None = None) -> None:
        if start is not None and (not isinstance(start, datetime) or start.utcoffset() is None):
            message = f"now={start!r} is no datetime with a time zone: write datetime(…, tzinfo=UTC)."
            raise ConfigError(message)
        self._now = micros((start or datetime.now(UTC)) - _EPOCH)

    def __call__(self) -> int:
        """Return the present in microseconds since the epoch."""
        return self._now

    @property
    def now(self) -> datetime:
        """The present as an aware datetime."""
        return moment(self._now)

    def set(self, at: int) -> None:
        """Go on to a time; one that has passed changes nothing."""
        self._now = max(self._now, at)


def micros(span: timedelta) -> int:
    """Return a duration in microseconds."""
    return span // _MICROSECOND


def moment(at: int) -> datetime:
    """Return microseconds since the epoch as an aware datetime."""
    return _EPOCH + at * _MICROSECOND
