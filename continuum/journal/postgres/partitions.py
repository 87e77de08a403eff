"""Here lives the cutting of ``continuum_events`` into months.

A run id begins with its creation time, so a month of runs is a range of ids, and all events of a run lie together.
The default partition catches what has no month yet. It should be empty: creating a month moves its events out of it.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from continuum.journal.postgres.database import execute_plain
from continuum.journal.postgres.names import Names
from continuum.model.ids import run_id_floor

__all__ = ["Month", "create_partitions", "months_from"]

_MICROSECONDS: Final = 1_000_000
_LOCK: Final = 6_021_714_077_823_451_122
_DECEMBER: Final = 12


class Month(NamedTuple):
    """A partition: its name, the first run id in it, the first one after it."""

    name: str
    first: str
    end: str


def months_from(now: datetime, ahead: int) -> Iterator[Month]:
    """Yield the present month and ``ahead`` more."""
    start = datetime(now.year, now.month, 1, tzinfo=UTC)
    for _ in range(ahead + 1):
        end = start.replace(year=start.year + (start.month == _DECEMBER), month=start.month % _DECEMBER + 1)
        yield Month(f"continuum_events_{start:%Y_%m}", _floor(start), _floor(end))
        start = end


def _floor(moment: datetime) -> str:
    return run_id_floor(int(moment.timestamp()) * _MICROSECONDS)


def create_partitions(connection: Connection, names: Names, *, months_ahead: int) -> list[str]:
    """Create what is missing, one transaction each, and return the new names.

    A month's table is filled and attached, not created in place: attaching locks the parent table against other
    maintenance only, and commits go on.
    """
    now = connection.execute(text("select clock_timestamp()")).scalar_one().astimezone(UTC)
    connection.commit()
    made = []
    for month in months_from(now, months_ahead):
        with connection.begin():
            execute_plain(connection, "set local lock_timeout = '10s'")
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            # Looked for first: creating asks for rights even where there is nothing to create.
            if not _is_attached(connection, names, "continuum_events_default"):
                execute_plain(
                    connection,
                    f"create table {names.quoted}.continuum_events_default"
                    f" partition of {names.quoted}.continuum_events default",
                )
            if _is_attached(connection, names, month.name):
                continue
            _create(connection, names, month)
            made.append(month.name)
    return made


def _is_attached(connection: Connection, names: Names, table: str) -> bool:
    found = connection.execute(
        text("select 1 from pg_inherits where inhrelid = to_regclass(:name)"),
        {"name": f"{names.quoted}.{table}"},
    )
    return found.first() is not None


def _create(connection: Connection, names: Names, month: Month) -> None:
    parent, name = f"{names.quoted}.continuum_events", f"{names.quoted}.{month.name}"
    bounds = f"'{month.first}' and run_id < '{month.end}'"
    # Crash: all of it is one transaction.
    execute_plain(connection, f"create table {name} (like {parent} including all)")
    execute_plain(connection, f"lock table {parent}_default in access exclusive mode")
    execute_plain(
        connection,
        f"with moved as (delete from {parent}_default where run_id >= {bounds} returning *)"
        f" insert into {name} select * from moved",
    )
    execute_plain(
        connection, f"alter table {parent} attach partition {name} for values from ('{month.first}') to ('{month.end}')"
    )
