"""Here lives waiting with a deadline, the only kind of waiting tests do."""

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["eventually"]

T = TypeVar("T")


def eventually(predicate: Callable[[], T], timeout: float = 10.0, *, interval: float = 0.02) -> T:
    """Return the first true answer of `predicate`; fail, with its last answer or error, after `timeout`
    seconds.

    An `AssertionError` in the predicate counts as "not yet", so it may be a block of assertions that returns
    True."""
    deadline = time.monotonic() + timeout
    while True:
        last: object
        try:
            answer = predicate()
        except AssertionError as error:
            last = error
        else:
            if answer:
                return answer
            last = answer
        if time.monotonic() >= deadline:
            name = getattr(predicate, "__qualname__", repr(predicate))
            msg = f"{name} did not come true within {timeout:g} s; last: {last!r}"
            raise AssertionError(msg)
        time.sleep(interval)
