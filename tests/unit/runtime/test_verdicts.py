"""Whether there is another attempt, and when."""

from datetime import timedelta

import msgspec

from continuum.model.failures import Failure
from continuum.model.ids import new_run_id
from continuum.model.policies import MAX_ATTEMPTS, ActivityPolicy, Retry
from continuum.model.tasks import ClaimedTask
from continuum.runtime.verdicts import next_attempt_in

RETRY = Retry(max_attempts=3, backoff="linear", base=timedelta(seconds=2), jitter=timedelta(0))
FAILED = Failure("ValueError", "no")


def _task(attempt: int) -> ClaimedTask:
    return ClaimedTask(new_run_id(1), 1, attempt, "charge", "[]", ActivityPolicy(retry=RETRY))


def test_the_pause_is_that_of_the_policy() -> None:
    assert next_attempt_in(_task(2), FAILED, fraction=0.5) == timedelta(seconds=4)


def test_there_is_none_after_the_last_attempt() -> None:
    assert next_attempt_in(_task(3), FAILED, fraction=0.5) is None


def test_there_is_none_after_a_permanent_failure() -> None:
    failure = Failure("ValueError", "no", permanent=True)
    assert next_attempt_in(_task(1), failure, fraction=0.5) is None


def test_an_activity_may_name_the_pause() -> None:
    failure = Failure("RetryAfter", "later", retry_after=timedelta(minutes=3))
    assert next_attempt_in(_task(1), failure, fraction=0.5) == timedelta(minutes=3)


def test_an_activity_that_counts_for_itself_gets_what_it_asks_for() -> None:
    """``self.retry(max_retries=10)`` of a Celery task that was declared with three."""
    policy = ActivityPolicy(retry=Retry(max_attempts=3, gives_up=True))
    asked = Failure("RetryAfter", "later", retry_after=timedelta(seconds=5))
    for attempt, pause in ((3, timedelta(seconds=5)), (MAX_ATTEMPTS - 1, timedelta(seconds=5)), (MAX_ATTEMPTS, None)):
        task = ClaimedTask(new_run_id(1), 1, attempt, "charge", "[]", policy)
        assert next_attempt_in(task, asked, fraction=0.5) == pause
        assert next_attempt_in(task, msgspec.structs.replace(asked, permanent=True), fraction=0.5) is None
    assert next_attempt_in(_task(3), asked, fraction=0.5) is None


def test_a_pause_in_the_past_is_none_at_all() -> None:
    failure = Failure("RetryAfter", "later", retry_after=timedelta(minutes=-3))
    assert next_attempt_in(_task(1), failure, fraction=0.5) == timedelta(0)
