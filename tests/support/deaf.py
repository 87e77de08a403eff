"""Here lives a journal that never hears a hint: everything must work by looking alone."""

import os
from collections.abc import Sequence
from typing import Any

from continuum.journal.protocol import Ears, Journal
from continuum.journal.requests import Hint, HintKind

__all__ = ["DeafJournal"]


class DeafEars:
    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        return self._read

    def hear(self) -> list[Hint]:
        return []

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class DeafJournal:
    """Passes everything on but hints, which are lost on both sides."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __getattr__(self, name: str) -> Any:
        return getattr(self._journal, name)

    def open_ears(self, _kinds: Sequence[HintKind]) -> Ears:
        return DeafEars()

    def hint(self, hint: Hint) -> None:
        pass
