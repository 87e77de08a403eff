"""Here live the errors with which the harness ends a test.

Each is an ``AssertionError``: a test that meets one has failed, and no ``except ContinuumError`` of the code under
test can swallow it.

::

    AssertionError
    └── HarnessError
        ├── RunBlocked      the run waits for something that only the test can send
        ├── RunStuck        the engine has set a run aside; `.reason` says why
        ├── RunGoesOn       the run goes on and on: a loop without an end
        └── FakeError       an activity was called that may not be, or its fake answers what it cannot
"""

__all__ = ["FakeError", "HarnessError", "RunBlocked", "RunGoesOn", "RunStuck"]


class HarnessError(AssertionError):
    """Base of the harness' own errors."""


class RunBlocked(HarnessError):
    """The run waits for something that only the test can send.

    :ivar waits: what it waits for, one sentence each.
    """

    def __init__(self, message: str, waits: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.waits = waits


class RunStuck(HarnessError):
    """The engine has set a run aside, as it would in production until a deploy: drift, a forbidden call, a spin.

    :ivar run_id: which run; it may be a child of the one that was asked for.
    :ivar reason: what the engine says.
    """

    def __init__(self, message: str, run_id: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.run_id = run_id
        self.reason = reason


class RunGoesOn(HarnessError):
    """The run neither ends nor waits for the test, however often its timers fire or its activities return."""


class FakeError(HarnessError):
    """An activity was called that may not be, or its fake gives an answer that the activity cannot give."""
