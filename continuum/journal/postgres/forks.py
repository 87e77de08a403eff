"""Here lives what a forked child does first: forget its parent's connections, without touching them.

Both processes share the sockets. If the child closed one, or merely said goodbye on it, the parent would lose it; and
locks that other threads held at the moment of the fork are never released in the child. So whoever owns connections or
locks registers here and starts anew.
"""

import os
from typing import Protocol
from weakref import WeakSet

__all__ = ["Forkable", "forget_after_fork"]


class Forkable(Protocol):
    """Something with connections or locks."""

    def after_fork(self) -> None:
        """Start anew, in the child; nothing inherited may be closed or waited for."""


_known: WeakSet[Forkable] = WeakSet()


def forget_after_fork(one: Forkable) -> None:
    """Call its ``after_fork`` in every child that is forked from now on."""
    _known.add(one)


def _in_child() -> None:
    for one in list(_known):
        one.after_fork()


os.register_at_fork(after_in_child=_in_child)
