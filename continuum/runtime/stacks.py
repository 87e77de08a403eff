"""Here lives where a thread stands, as text: for those who report that it has been there too long."""

import sys
import traceback

__all__ = ["stack_of"]


def stack_of(thread: int | None, *, limit: int | None = None) -> str:
    """Return the stack of a thread by its identity, empty if there is none; ``limit`` as in `traceback`."""
    frame = None if thread is None else sys._current_frames().get(thread)  # noqa: SLF001 - the only way
    return "" if frame is None else "".join(traceback.format_stack(frame, limit=limit))
