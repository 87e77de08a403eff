"""Here lives what tests of external executors say often: order, publish, let time pass, hear what the run was told."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from continuum.journal.memory import MemoryJournal
from continuum.journal.protocol import Dispatches
from continuum.model.ids import WorkerId
from continuum.model.leases import ClaimedRun
from continuum.model.tasks import ClaimedTask, TaskOrder, TaskRecord, TaskRef
from tests.support.journals import Desk, order

__all__ = [
    "CELERY",
    "MINUTE",
    "SECOND",
    "age_in_memory",
    "age_in_postgres",
    "celery",
    "deliver",
    "letters",
    "mark",
    "published",
    "ref_of",
    "row_of",
    "waiting",
]

CELERY: Final = "celery"
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)


def celery(command: int, **fields: Any) -> TaskOrder:
    return order(command, executor=CELERY, **fields)


def published(desk: Desk, worker: WorkerId, *orders: TaskOrder) -> ClaimedRun:
    """Start a run whose tasks its commit inserts as dispatched by the worker."""
    wanted = orders or (celery(0),)
    return desk.parked(worker, orders=wanted, dispatched=frozenset(item.command for item in wanted))


def waiting(desk: Desk, worker: WorkerId, *orders: TaskOrder) -> ClaimedRun:
    """Start a run whose tasks are free."""
    return desk.parked(worker, orders=orders or (celery(0),))


def mark(
    desk: Desk,
    worker: WorkerId,
    *,
    rooms: dict[str, int] | None = None,
    room: int = 100,
    limit: int = 100,
    deadline: timedelta = MINUTE,
    executor: str = CELERY,
) -> Dispatches:
    """Dispatch free tasks."""
    return desk.journal.tasks.dispatch(
        worker, executor=executor, rooms=rooms or {}, room=room, limit=limit, deadline=deadline
    )


def ref_of(run: ClaimedRun, command: int = 0, attempt: int = 1) -> TaskRef:
    return TaskRef(run.run_id, command, attempt)


def row_of(desk: Desk, run: ClaimedRun, command: int = 0) -> TaskRecord:
    [row] = [row for row in desk.journal.tasks.of_run(run.run_id) if row.command == command]
    return row


def deliver(desk: Desk, worker: WorkerId, run: ClaimedRun, command: int = 0, attempt: int = 1) -> ClaimedTask:
    """Let a worker get the message about an attempt, and begin it."""
    [task] = desk.journal.tasks.claim_dispatched(worker, [ref_of(run, command, attempt)])
    return task


def letters(desk: Desk, owner: WorkerId) -> list[tuple[str, int | None, str | None]]:
    """Return what the owner's runs were told."""
    return [(str(message.kind), message.command, message.payload) for message in desk.mail(owner).messages]


# ------------------------------------------------------------------ time


def age_in_memory(journal: MemoryJournal, span: timedelta) -> None:
    """Move every time of every task row into the past."""
    store, by = journal._store, span // timedelta(microseconds=1)
    with store.lock:
        for row in store.all_tasks():
            for name in _TIMES["memory"]:
                at = getattr(row, name)
                setattr(row, name, None if at is None else at - by)


def age_in_postgres(url: str, span: timedelta) -> None:
    """Move every time of every task row into the past."""
    import psycopg2

    older = ", ".join(f"{name} = t.{name} - %(span)s" for name in _TIMES["postgres"])
    # What is locked just now is left as it is: whoever waits here could be waited for.
    free = "select run_id, command from continuum_tasks for update skip locked"
    matching = "t.run_id = f.run_id and t.command = f.command"
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                f"with f as materialized ({free}) update continuum_tasks t set {older} from f where {matching}",
                {"span": span},
            )
        connection.commit()
    finally:
        connection.close()


_TIMES: Final[dict[str, Sequence[str]]] = {
    "memory": ("available_at", "claimed_at", "expires_at", "heartbeat_at"),
    "postgres": ("available_at", "claimed_at", "lease_expires_at", "heartbeat_at", "dispatched_at"),
}
