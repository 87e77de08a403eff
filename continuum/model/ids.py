"""Here live the identifiers, as distinct types over canonical UUID text.

Ids stay text: they arrive from the driver as text, leave in array literals as text, and a ``uuid.UUID`` costs
a microsecond each way on a path that is counted in microseconds.

Run ids are UUIDv7 (RFC 9562): their first 48 bits are the creation time in milliseconds, so a month of runs is a
range of ids, which is what the event partitions are made of. The time is the database's, never the host's.
"""

import os
import uuid
from hashlib import blake2b
from typing import NewType

__all__ = [
    "ChainId",
    "RunId",
    "WorkerId",
    "derive_run_id",
    "new_run_id",
    "new_worker_id",
    "parse_run_id",
    "run_id_floor",
]

RunId = NewType("RunId", str)
ChainId = NewType("ChainId", str)
WorkerId = NewType("WorkerId", str)

_RANDOM_BITS = 74
_VARIANT = 0b10 << 62
_VERSION = 7 << 76


def new_run_id(at_us: int) -> RunId:
    """Return a new UUIDv7 for the given time (microseconds since the epoch)."""
    noise = int.from_bytes(os.urandom(10), "big") & ((1 << _RANDOM_BITS) - 1)
    return _run_id(at_us, noise)


def derive_run_id(at_us: int, parent: RunId, what: str) -> RunId:
    """Return the id of a run that another one starts: the same whenever it is asked for.

    A UUIDv7 whose random bits are the BLAKE2b digest (RFC 7693) of the starting run's id and of what it starts.
    """
    digest = blake2b(f"{parent}/{what}".encode(), digest_size=10).digest()
    return _run_id(at_us, int.from_bytes(digest, "big") & ((1 << _RANDOM_BITS) - 1))


def _run_id(at_us: int, noise: int) -> RunId:
    high, low = noise >> 62, noise & ((1 << 62) - 1)
    value = (at_us // 1000) << 80 | _VERSION | high << 64 | _VARIANT | low
    return RunId(str(uuid.UUID(int=value)))


def run_id_floor(at_us: int) -> RunId:
    """Return the smallest id a run created at this time can have: the boundary of a partition."""
    return RunId(str(uuid.UUID(int=(at_us // 1000) << 80)))


def new_worker_id() -> WorkerId:
    """Return a new worker id. Ids are never reused; a forked process takes a new one."""
    return WorkerId(str(uuid.UUID(bytes=os.urandom(16), version=4)))


def parse_run_id(text: str) -> RunId:
    """Return the canonical form of a run id given by a person.

    Raises ``ValueError`` if the text is no UUID.
    """
    return RunId(str(uuid.UUID(text.strip())))
