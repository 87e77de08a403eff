"""Here lives what each child of a prefork pool is busy with, told by the children themselves.

Celery's main process forgets jobs: when it loses its broker it drops those that it has not heard of as begun, and it
hears nothing while it waits for the broker or sleeps in a soft shutdown. Such a child works on, and to give its attempt
up as one that nobody runs would make another one beside it. So a child says what it runs in a page of memory that it
shares with the main process, each in its own place there.
"""

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from billiard.process import current_process

from continuum.model.ids import RunId
from continuum.model.tasks import TaskRef

__all__ = ["lives", "occupied", "occupy", "prepare"]

# Process, instance, command, attempt, run.
_PLACE: Final = struct.Struct("q8sii40s")
_PLACES: Final = 1024  # children beyond that are known by what the pool says of them
_NOTHING: Final = bytes(_PLACE.size)


class _Page:
    def __init__(self) -> None:
        self.maker = os.getpid()
        self.memory = mmap.mmap(-1, _PLACES * _PLACE.size)  # shared with what is forked from here on


_pages: Final[list[_Page]] = []


def prepare() -> None:
    """Make the page, in the main process, before its pool forks."""
    _pages[:] = [_Page()]


@contextmanager
def occupy(instance: str, ref: TaskRef) -> Iterator[None]:
    """Say, in a child, that this is what it is busy with during the block."""
    place = _own_place()
    if place is None:
        yield
        return
    memory, offset = place
    said = _PLACE.pack(os.getpid(), _digest(instance), ref.command, ref.attempt, ref.run_id.encode()[:40])
    memory[offset : offset + _PLACE.size] = said
    try:
        yield
    finally:
        memory[offset : offset + _PLACE.size] = _NOTHING


def occupied(instance: str) -> frozenset[TaskRef]:
    """Return the attempts of an instance that living children are busy with."""
    if not _pages:
        return frozenset()
    wanted = _digest(instance)
    return frozenset(
        TaskRef(RunId(run.rstrip(b"\0").decode(errors="replace")), command, attempt)
        for pid, whose, command, attempt, run in _PLACE.iter_unpack(_pages[0].memory[:])
        if pid and whose == wanted and lives(pid)
    )


def lives(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # not ours to ask, or a greenlet's number
        return True
    return True


def _own_place() -> tuple[mmap.mmap, int] | None:
    if not _pages or _pages[0].maker == os.getpid():
        return None  # spawned rather than forked, or no child at all
    # Billiard numbers the living children of a pool; a new one takes the number of one that is gone.
    number = getattr(current_process(), "index", None)
    if not isinstance(number, int) or not 0 <= number < _PLACES:
        return None
    return _pages[0].memory, number * _PLACE.size


def _digest(instance: str) -> bytes:
    return hashlib.blake2b(instance.encode(), digest_size=8).digest()
