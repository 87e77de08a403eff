"""Here live the rules an activity runs under: retries, limits, queue."""

from datetime import timedelta
from typing import Final, Literal

import msgspec

from continuum.errors import DeclarationError
from continuum.model.names import flaw_of

__all__ = ["DEFAULT_QUEUE", "MAX_ATTEMPTS", "MAX_TIMEOUT", "ActivityPolicy", "Backoff", "Retry"]

Backoff = Literal["exponential", "linear", "constant"]

_ZERO: Final = timedelta(0)
DEFAULT_QUEUE: Final = "default"
MAX_TIMEOUT: Final = timedelta(hours=24)
MAX_PRIORITY: Final = 1_000
MAX_ATTEMPTS: Final = 1_000


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """How often and when an activity is tried again.

    The delay before attempt *n + 1* is ``base`` (constant), ``base * n`` (linear) or ``base * 2 ** (n - 1)``
    (exponential), at most ``cap``, plus up to ``jitter``, the sum again at most ``cap``. At the cap the jitter
    spreads downwards, so that many tasks at their maximum do not return together.

    :ivar max_attempts: how often in all, 1 to 1,000. Default 3.
    :ivar horizon: the longest all attempts and delays may take together; declarations that could exceed it are
        refused. None for no bound.
    :ivar gives_up: whether every failure is final but :class:`~continuum.errors.RetryAfter`, by which an activity asks
        for another attempt, and the death of its worker. Celery tasks are tried again like that. Such an activity
        counts for itself: what it asks for it gets, up to 1,000; ``max_attempts`` bounds the deaths.
    """

    max_attempts: int = 3
    backoff: Backoff = "exponential"
    base: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)
    jitter: timedelta = timedelta(milliseconds=250)
    horizon: timedelta | None = None
    gives_up: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int):
            _refuse("retry.max_attempts", self.max_attempts, "a whole number from 1 to 1000")
        if not 1 <= self.max_attempts <= MAX_ATTEMPTS:
            _refuse("retry.max_attempts", self.max_attempts, "a whole number from 1 to 1000")
        if self.backoff not in {"exponential", "linear", "constant"}:
            _refuse("retry.backoff", self.backoff, "'exponential', 'linear' or 'constant'")
        if not isinstance(self.gives_up, bool):
            _refuse("retry.gives_up", self.gives_up, "True or False")
        for name in ("base", "cap", "jitter", "horizon"):
            value = getattr(self, name)
            if name == "horizon" and value is None:
                continue
            if not isinstance(value, timedelta) or value < _ZERO:
                _refuse(f"retry.{name}", value, "a timedelta of zero or more")

    def delay(self, attempt: int, *, fraction: float) -> timedelta:
        """Return the pause after the given failed attempt (from 1).

        ``fraction`` in [0, 1) places it inside the jitter window; the caller owns the randomness.
        """
        match self.backoff:
            case "constant":
                raw = self.base
            case "linear":
                raw = min(self.base * attempt, self.cap)
            case "exponential":
                # 2 ** 40 seconds outlasts any cap; a larger power would overflow timedelta.
                raw = min(self.base * 2 ** min(attempt - 1, 40), self.cap) if self.base else _ZERO
        high = min(min(raw, self.cap) + self.jitter, self.cap)
        low = max(_ZERO, high - self.jitter)
        return low + (high - low) * fraction


class ActivityPolicy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything about an activity call but its name and arguments; stored with the task as JSON.

    :ivar timeout: longest time one attempt may take, at most 24 hours. Default one hour.
    :ivar heartbeat_timeout: longest silence between two heartbeats of an attempt; None for no bound.
    :ivar queue: None if nobody said: the executor decides then, see :attr:`queue_name`.
    :ivar priority: higher runs first, within -1000 to 1000.
    :ivar executor: ``local``, ``celery`` …; None for the instance's.
    """

    retry: Retry = Retry()
    timeout: timedelta = timedelta(hours=1)
    heartbeat_timeout: timedelta | None = None
    queue: str | None = None
    priority: int = 0
    executor: str | None = None
    transactional: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.retry, Retry):
            _refuse("retry", self.retry, "a Retry(...)")
        if not isinstance(self.timeout, timedelta) or not _ZERO < self.timeout <= MAX_TIMEOUT:
            _refuse("timeout", self.timeout, "a timedelta above zero and at most 24 hours")
        beat = self.heartbeat_timeout
        if beat is not None and (not isinstance(beat, timedelta) or beat <= _ZERO):
            _refuse("heartbeat_timeout", beat, "None or a timedelta above zero")
        if self.queue is not None and flaw_of(self.queue) is not None:
            _refuse("queue", self.queue, "a name of 1 to 200 characters")
        if isinstance(self.priority, bool) or not isinstance(self.priority, int) or abs(self.priority) > MAX_PRIORITY:
            _refuse("priority", self.priority, "a whole number from -1000 to 1000")
        if self.executor is not None and (not isinstance(self.executor, str) or not self.executor):
            _refuse("executor", self.executor, "None or the name of an executor")
        self._check_horizon()

    def _check_horizon(self) -> None:
        horizon = self.retry.horizon
        if horizon is None:
            return
        attempts = self.retry.max_attempts
        worst = self.timeout * attempts + sum(
            (self.retry.delay(attempt, fraction=1.0) for attempt in range(1, attempts)), _ZERO
        )
        if worst > horizon:
            message = (
                f"retry.horizon={horizon} is too short: {attempts} attempts of {self.timeout} and the pauses between"
                f" them may take {worst}. Raise the horizon, or lower timeout, max_attempts or cap."
            )
            raise DeclarationError(message)

    @property
    def queue_name(self) -> str:
        """The queue of a task under this policy."""
        return self.queue or DEFAULT_QUEUE

    def encode(self) -> str:
        """Return the JSON text stored with each task."""
        return _encode(self).decode()

    @staticmethod
    def parse(payload: str) -> "ActivityPolicy":
        """Return the policy a task was stored with."""
        return _parse(payload)


def _refuse(what: str, value: object, wanted: str) -> None:
    message = f"{what}={value!r} is not valid: write {wanted}."
    raise DeclarationError(message)


_encode = msgspec.json.Encoder().encode
_parse = msgspec.json.Decoder(ActivityPolicy).decode
