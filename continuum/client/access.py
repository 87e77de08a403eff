"""Here lives a client's way to its journal: opened when first needed, once, by whichever thread comes first.

After a fork the child must not touch the parent's connections, not even to close them: closing sends a goodbye on a
socket that both share. So the child forgets them without letting them be collected, and opens its own.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from continuum.client.waiting import ResultHub
from continuum.config import Settings
from continuum.declare.registry import Registry, load_modules
from continuum.errors import DeterminismError
from continuum.journal.open import load_wing, open_journal
from continuum.journal.protocol import Journal
from continuum.replay.effects.base import in_workflow

__all__ = ["Access"]

# Connections of parents, kept from the garbage collector, which would close them.
_abandoned: Final[list[object]] = []


class Access:
    """Settings, declarations and a lazily opened journal. Safe to use from any thread, and after a fork.

    A journal that was handed in belongs to the caller and is never closed here.

    :ivar forked: called in a forked child, so that the owner can forget what only the parent has.
    """

    def __init__(
        self, settings: Settings, *, registry: Registry, journal: Journal | None = None, engine: Any = None
    ) -> None:
        if journal is None:
            load_wing(settings.url)
        self.settings: Final = settings
        self.registry: Final = registry
        self._given = journal
        self._engine = engine
        self._lock = threading.RLock()
        self._journal: Journal | None = None
        self._hub: ResultHub | None = None
        self._imported = False
        self.forked: Callable[[], None] = _nothing
        _everyone.add(self)

    @property
    def journal(self) -> Journal:
        """The journal, checked once.

        Raises ``ConfigError``, ``JournalUnavailable``, ``SchemaOutdated``; ``DeterminismError`` in workflow code.
        """
        if in_workflow():
            message = (
                "workflow code used a Continuum instance. On replay that would happen again, with another answer:"
                " start, signal or ask for runs in an activity, and await that."
            )
            raise DeterminismError(message)
        return self._journal or self._open()

    @property
    def hub(self) -> ResultHub:
        """The one place of this instance where results are waited for."""
        journal = self.journal
        hub = self._hub
        if hub is None:
            poll = self.settings.poll_interval.total_seconds()
            with self._lock:
                hub = self._hub = self._hub or ResultHub(journal, first_poll=poll / 2, longest_poll=poll * 2.5)
        return hub

    @property
    def is_open(self) -> bool:
        """Whether using the journal needs no connecting first."""
        return self._journal is not None

    @property
    def engine(self) -> Any:
        """The SQLAlchemy engine handed in, or None."""
        return self._engine

    def import_modules(self) -> None:
        """Import ``modules=[…]``, so that what they declare is known. Raises ``ConfigError`` if one is missing."""
        if not self._imported:
            load_modules(self.settings.modules)
            self._imported = True

    def close(self) -> None:
        """Close what was opened; a later call opens it again."""
        with self._lock:
            hub, self._hub = self._hub, None
            journal, self._journal = self._journal, None
        if hub is not None:
            hub.close()
        if journal is not None and journal is not self._given:
            journal.close()

    def _open(self) -> Journal:
        with self._lock:
            if self._journal is None:
                journal = self._given or open_journal(
                    self.settings.require_url(), schema=self.settings.schema, engine=self._engine
                )
                try:
                    # Says at once what is wrong with the database, and learns its clock: ids are made of it.
                    journal.check()
                except BaseException:
                    if journal is not self._given:
                        journal.close()
                    raise
                self._journal = journal
            return self._journal

    def _forget(self) -> None:
        _abandoned.append((self._journal, self._hub))
        # The parent's lock may be held by one of its threads, which do not exist here.
        self._lock = threading.RLock()
        self._journal = None
        self._hub = None
        self.forked()


def _nothing() -> None:
    """Whoever owns the access has nothing to forget after a fork."""


_everyone: Final[weakref.WeakSet[Access]] = weakref.WeakSet()


def _after_fork() -> None:
    for access in list(_everyone):
        access._forget()  # noqa: SLF001 - same module


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
