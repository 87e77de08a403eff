"""Here lives who told a child of the pool to end: Celery, or somebody else.

A child that Celery ends (a shutdown, a terminating revoke) puts its attempt back as it was. A child whose body sent
itself SIGTERM, by whatever library, must not: the same attempt would do it again, for ever, without ever being counted.
A signal does not say who sent it. So the main process says whom it ends, in a page of memory that it shares with the
children it forks, before it does.
"""

import itertools
import mmap
import os
import struct
import time
from typing import Any, Final

from celery.signals import worker_shutting_down

__all__ = ["prepare", "summon", "summon_all", "was_summoned"]

_PID: Final = struct.Struct("q")
_SIZE: Final = mmap.PAGESIZE
_SLOTS: Final = _SIZE // _PID.size
_ALL: Final = -1
# A service manager may signal main process and children at once; the main process says so when it gets to it.
_WAIT: Final = 1.0
_LOOK: Final = 0.02


class _Page:
    def __init__(self) -> None:
        self.maker = os.getpid()
        self._memory = mmap.mmap(-1, _SIZE)  # shared with what is forked from here on
        self._turn = itertools.count()

    def write(self, pid: int) -> None:
        # No lock: a signal's handler may come in between, on the same thread.
        slot = 0 if pid == _ALL else next(self._turn) % (_SLOTS - 1) + 1
        _PID.pack_into(self._memory, slot * _PID.size, pid)

    def names(self, pid: int) -> bool:
        return any(each in {_ALL, pid} for (each,) in _PID.iter_unpack(self._memory[:]))


_pages: Final[list[_Page]] = []


def prepare() -> None:
    """Make the page, in the main process, before its pool forks; a new worker begins with an empty one."""
    _pages[:] = [_Page()]
    worker_shutting_down.connect(summon_all, weak=False, dispatch_uid="continuum.summon_all")


def summon(pid: int | None) -> None:
    """This child is about to be told to end."""
    if pid and _pages and _pages[0].maker == os.getpid():
        _pages[0].write(pid)


def summon_all(**_: Any) -> None:
    """Every child is about to be told to end."""
    if _pages and _pages[0].maker == os.getpid():
        _pages[0].write(_ALL)


def was_summoned() -> bool:
    """Whether Celery told this process to end; True where that cannot be known. May take a second."""
    if not _pages or _pages[0].maker == os.getpid():
        return True  # spawned rather than forked, or no child at all
    page, until = _pages[0], time.monotonic() + _WAIT
    while not page.names(os.getpid()):
        if time.monotonic() >= until:
            return False
        time.sleep(_LOOK)
    return True
