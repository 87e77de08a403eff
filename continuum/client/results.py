"""Here lives what a terminal event means to whoever asked for the result."""

from typing import Any, Final, assert_never

from continuum.client.waiting import Outcome
from continuum.declare.registry import Registry, WorkflowDeclaration
from continuum.errors import ResultTimeout, RunCancelled, RunFailed
from continuum.model.codec import decode
from continuum.model.failures import Failure
from continuum.model.ids import RunId
from continuum.model.runs import RunState

__all__ = ["read_outcome", "timed_out"]

_UNTOLD: Final = Failure("unknown", "")


def read_outcome(run_id: RunId, outcome: Outcome, *, workflow: str | None, registry: Registry) -> Any:
    """Return the result, decoded by the workflow's return hint where the workflow is loaded here.

    Raises ``RunFailed``, ``RunCancelled``, ``CodecError``.
    """
    state, event = outcome
    match state:
        case RunState.COMPLETED:
            declared = None if workflow is None else registry.find_workflow(workflow)
            return _decode(declared, event.payload)
        case RunState.FAILED:
            failure = Failure.parse(event.payload) if event.payload else _UNTOLD
            message = f"run {run_id} failed: {failure.type_name}: {failure.message}"
            raise RunFailed(
                message,
                run_id=run_id,
                type_name=failure.type_name,
                error_message=failure.message,
                remote_traceback=failure.traceback,
            )
        case RunState.CANCELLED:
            raise RunCancelled(f"run {run_id} was cancelled", run_id=run_id, state=str(state), reason="")
        case RunState.TERMINATED:
            reason = Failure.parse(event.payload).message if event.payload else ""
            message = f"run {run_id} was terminated" + (f": {reason}" if reason else "")
            raise RunCancelled(message, run_id=run_id, state=str(state), reason=reason)
        case RunState.PENDING | RunState.RUNNING | RunState.SUSPENDED | RunState.STUCK | RunState.CONTINUED:
            message = f"run {run_id} has no outcome in state {state}"
            raise AssertionError(message)
        case _:
            assert_never(state)


def timed_out(run_id: RunId, seconds: float | None) -> ResultTimeout:
    """Return the error to raise when the wait is over and the run is not."""
    message = (
        f"run {run_id} has not ended within {seconds:g} s; it goes on. Ask again later, or look at it with"
        f" `continuum show {run_id}`."
    )
    return ResultTimeout(message, run_id=run_id)


def _decode(declared: WorkflowDeclaration | None, payload: str | None) -> Any:
    if payload is None:
        return None
    return decode(payload) if declared is None else declared.decode_result(payload)
