"""Here lives what follows from a failed attempt: another one after a pause, or the end."""

from datetime import timedelta
from typing import Final

from continuum.model.failures import Failure
from continuum.model.policies import MAX_ATTEMPTS
from continuum.model.tasks import ClaimedTask

__all__ = ["next_attempt_in"]

_ZERO: Final = timedelta(0)


def next_attempt_in(task: ClaimedTask, failure: Failure, *, fraction: float) -> timedelta | None:
    """Return the pause before the next attempt, None if this was the last one.

    ``fraction`` in [0, 1) places it inside the jitter window; the caller owns the randomness.
    """
    retry = task.policy.retry
    # An adapted Celery task counts for itself, and self.retry(max_retries=…) may say more than its declaration did.
    asked = retry.gives_up and failure.retry_after is not None
    if failure.permanent or task.attempt >= (MAX_ATTEMPTS if asked else retry.max_attempts):
        return None
    if failure.retry_after is not None:
        return max(failure.retry_after, _ZERO)
    return retry.delay(task.attempt, fraction=fraction)
