"""Here lives what a client needs to know of a caller's own transaction: when it has committed.

The journal writes through the caller's connection (``connection=``); the hint that makes a dispatcher look must come
after the commit, or it would look too early. SQLAlchemy and Django tell when they commit; raw drivers do not, and the
dispatchers' floor poll finds those runs. Nothing is imported here: whoever hands in a SQLAlchemy connection has
loaded SQLAlchemy.
"""

import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["send_after_commit"]

_PENDING: Final = "continuum.hints"
# SQLAlchemy tells of a commit just before it sends it; the hint waits for the end of it, by this step and this long.
_STEP: Final = 0.001
_LONGEST_COMMIT: Final = 5.0


def send_after_commit(connection: Any, key: str, send: Callable[[], None]) -> bool:
    """Call ``send`` once the caller's transaction has committed; never if it is rolled back.

    Several calls with one ``key`` in one transaction become one. Returns False where commits cannot be followed.
    """
    if hasattr(connection, "on_commit"):
        connection.on_commit(send)
        return True
    sqlalchemy = sys.modules.get("sqlalchemy")
    if sqlalchemy is None:
        return False
    # A session works through a connection of its own; transactions are that one's.
    core = connection.connection() if hasattr(connection, "get_bind") else connection
    if not isinstance(core, sqlalchemy.Connection):
        return False
    core.info.setdefault(_PENDING, {})[key] = send
    if not sqlalchemy.event.contains(core, "commit", _committing):
        sqlalchemy.event.listen(core, "commit", _committing)
        sqlalchemy.event.listen(core, "rollback", _rolled_back)
    return True


def _committing(connection: Any) -> None:
    pending = connection.info.pop(_PENDING, None)
    transaction = connection.get_transaction()
    if pending and transaction is not None:
        threading.Thread(
            target=_send_when_over, args=(transaction, list(pending.values())), name="continuum-hint", daemon=True
        ).start()


def _rolled_back(connection: Any) -> None:
    connection.info.pop(_PENDING, None)


def _send_when_over(transaction: Any, sends: list[Callable[[], None]]) -> None:
    deadline = time.monotonic() + _LONGEST_COMMIT
    while transaction.is_active and time.monotonic() < deadline:
        time.sleep(_STEP)
    for send in sends:
        send()
