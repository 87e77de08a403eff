"""Running an adapted Celery task as an attempt, without an engine."""

from typing import Any

from continuum.declare.activities import Activity
from continuum.declare.attempts import Attempt
from continuum.model.ids import RunId

__all__ = ["perform"]


def perform(step: Activity[..., Any], *args: Any, number: int = 1, **kwargs: Any) -> Any:
    """Return what an attempt returns, or raise what it raises."""
    attempt = Attempt(number=number, run_id=RunId("run-1"), command=7, activity=step.name)
    with attempt.bound():
        return step.function(*args, **kwargs)
