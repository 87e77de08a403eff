"""Here lives the journal without a database: the same rules over plain dicts, gone with the process.

For tests, demonstrations and workflows that need not outlive their process. It passes the contract suite of
the Postgres wing; what it cannot give is durability and a caller's transaction (``connection=``).
"""

from continuum.journal.memory.journal import MemoryJournal

__all__ = ["MemoryJournal"]
