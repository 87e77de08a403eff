"""Here lives what a schedule is played with: a wing of the journal, and how much may go wrong."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

from continuum.journal.protocol import Journal
from continuum.model.ids import RunId
from continuum.model.messages import NewMessage

__all__ = ["Faults", "Wing"]


@dataclass
class Wing:
    """A journal, and what a schedule needs besides."""

    journal: Journal
    locked: Callable[[RunId], AbstractContextManager[None]]
    begin_post: Callable[[NewMessage], Callable[[], object]]  # in a transaction; call the answer to commit
    now_us: Callable[[], int]
    pass_time: Callable[[int], object]
    count: Callable[[], tuple[int, int]]  # runs, messages
    age_tasks: Callable[[timedelta], None]  # moves all times of task rows into the past
    close: Callable[[], None] = lambda: None


@dataclass
class Faults:
    """How many of each a schedule may have."""

    crashes: int = 2
    losses: int = 3
    expiries: int = 2
    locks: int = 4
    requeues: int = 1
    drains: int = 1
    forks: int = 1
    cancels: int = 1
    terminations: int = 1
