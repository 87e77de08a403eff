"""Here lives the description of an exception that has to cross a process and a database.

An exception object may be unpicklable, huge, or of a class the reader does not have. What travels is its type's
name, its message and its traceback as text, each bounded.
"""

import traceback
from datetime import timedelta
from enum import StrEnum
from typing import Final

import msgspec

from continuum.errors import PermanentError, RetryAfter
from continuum.model.ids import RunId

__all__ = ["TIMEOUTS", "Failure", "FailureKind", "clip", "closed_with", "describe_exception", "terminated"]

MAX_MESSAGE: Final = 4_000
MAX_TRACEBACK: Final = 16_000
_MAX_CAUSES: Final = 3


class FailureKind(StrEnum):
    """How an attempt or a run came to fail."""

    RAISED = "raised"
    TIMED_OUT = "timed_out"
    HEARTBEAT_TIMED_OUT = "heartbeat_timed_out"
    CANCELLED = "cancelled"
    WORKER_DIED = "worker_died"


TIMEOUTS: Final = frozenset({FailureKind.TIMED_OUT, FailureKind.HEARTBEAT_TIMED_OUT})


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of a failure; stored as a plain JSON object."""

    type_name: str
    message: str
    traceback: str = ""
    kind: FailureKind = FailureKind.RAISED
    permanent: bool = False
    attempts: int = 0
    retry_after: timedelta | None = None
    cause: "Failure | None" = None

    def encode(self) -> str:
        """Return the JSON text to store."""
        return _encode(self).decode()

    @staticmethod
    def parse(payload: str) -> "Failure":
        """Return the failure a payload describes."""
        return _parse(payload)


_encode = msgspec.json.Encoder().encode
_parse = msgspec.json.Decoder(Failure).decode


def terminated(reason: str) -> Failure:
    """Return why a run was ended without its code."""
    return Failure("Terminated", reason, kind=FailureKind.CANCELLED)


def closed_with(parent: RunId) -> Failure:
    """Return why a child was ended without its code: its parent has ended."""
    return terminated(f"its parent {parent} ended")


def describe_exception(error: BaseException, *, attempts: int = 0, _depth: int = 0) -> Failure:
    """Return the bounded, storable description of an exception, its ``__cause__`` chain included.

    Never raises: an exception whose ``__str__`` fails is described by that.
    """
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except BaseException as broken:  # noqa: BLE001 - a user's __str__ may raise anything
        message = f"<its __str__ raised {type(broken).__name__}>"
    try:
        text = "".join(traceback.format_exception(error, chain=False, limit=-50))
    except BaseException as broken:  # noqa: BLE001 - formatting calls the user's __str__ again
        text = f"<no traceback: {type(broken).__name__}>"
    cause = error.__cause__
    return Failure(
        type_name=clip(name, 300),
        message=clip(message, MAX_MESSAGE),
        traceback=clip(text, MAX_TRACEBACK),
        permanent=isinstance(error, PermanentError),
        attempts=attempts,
        retry_after=error.delay if isinstance(error, RetryAfter) else None,
        cause=describe_exception(cause, _depth=_depth + 1) if cause is not None and _depth < _MAX_CAUSES else None,
    )


def clip(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return the text, bounded and without lone surrogates (of a file name, say), which no UTF-8 can hold."""
    clean = text.encode("utf-8", "backslashreplace").decode()
    if len(clean) <= limit:
        return clean
    half = limit // 2
    return f"{clean[:half]}\n… {len(clean) - limit} characters left out …\n{clean[-half:]}"
