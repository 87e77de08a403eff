"""Here live the words for patches: where code asks for them, and what open runs have answered."""

import msgspec

__all__ = ["PatchSite", "PatchUse"]


class PatchSite(msgspec.Struct, frozen=True, order=True):
    """A ``patched("id")`` in the code.

    :ivar patch: the id.
    :ivar file: as histories name it; ``line`` from 1.
    :ivar function: qualified name of the function it stands in.
    """

    patch: str
    file: str
    line: int
    function: str


class PatchUse(msgspec.Struct, frozen=True, order=True):
    """Open runs that are alike in what matters to patches.

    :ivar version_hash: of the code they last ran.
    :ivar began: whether any of their code has run.
    :ivar adopted: whether they were started with other code than they run now.
    :ivar patches: ids that they have answered with True.
    :ivar runs: how many they are.
    """

    workflow: str
    version: int
    version_hash: str
    began: bool
    adopted: bool
    patches: tuple[str, ...]
    runs: int
