"""Here lives a run's place in its family: how deep it sits below the first run, and which children it may still have.

All of it follows from the history alone, so it is the same on every replay.
"""

__all__ = ["Lineage"]


class Lineage:
    """What one run knows of those above and below it.

    :ivar depth: how many runs above it were started by each other.
    :ivar max_depth: the greatest depth a child may have.
    :ivar inherited: whether earlier runs of its chain may have children that have not ended.
    :ivar living: how many children it has started itself and not heard the end of.
    :ivar keys: the labels it has given them; None for none.
    """

    __slots__ = ("depth", "inherited", "keys", "living", "max_depth")

    def __init__(self) -> None:
        self.depth = 0
        self.max_depth = 0
        self.inherited = False
        self.living = 0
        self.keys: set[str] | None = None

    def add(self, key: str | None) -> None:
        """Count a child that was started, and remember its key."""
        self.living += 1
        if key is not None:
            self.keys = self.keys or set()
            self.keys.add(key)

    @property
    def has_children(self) -> bool:
        """Whether a child of its chain may not have ended."""
        return self.inherited or self.living > 0
