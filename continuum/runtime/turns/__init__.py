"""Here lives the turns thread: it owns every coroutine, and every connection of the hot path."""

from continuum.runtime.turns.pool import Pool
from continuum.runtime.turns.thread import Turns

__all__ = ["Pool", "Turns"]
