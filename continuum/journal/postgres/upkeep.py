"""Here lives what has to be done now and then: partitions ahead of time, mail that nobody will read."""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Sequence
from typing import Final

import msgspec

from continuum.journal.postgres.database import Database, translated
from continuum.journal.postgres.literals import ids, integer, integers, texts
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.partitions import create_partitions
from continuum.journal.postgres.payloads import Payloads
from continuum.model.runs import ENDED

__all__ = ["DEAD_MAIL", "DISCARD", "PostgresUpkeep"]

_COUNTED: Final = 1000

MISPLACED: Final = Statement(
    "misplaced",
    f"select count(*) from (select 1 from continuum_events_default limit {_COUNTED}) e",
)

# The run is locked, so that two of us do not number the same note twice; it has ended, so nobody else writes it.
DEAD_MAIL: Final = Statement(
    "dead_mail",
    f"""
    select b.id, b.chain_id, r.id, b.kind, b.command, b.name, b.payload::text
    from (select distinct chain_id from continuum_inbox) i
    cross join lateral (
        select r.id from continuum_runs r
        where r.chain_id = i.chain_id and r.is_tip and r.state in ({", ".join(f"'{one}'" for one in sorted(ENDED))})
        limit 1 for no key update skip locked
    ) r
    cross join lateral (
        select * from continuum_inbox b where b.chain_id = i.chain_id order by b.id limit $1::int
    ) b
    limit $1::int
    """,
)
DISCARD: Final = Statement(
    "discard",
    """
    with gone as (
        delete from continuum_inbox b
        using unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::json[])
            d(id, chain_id, run_id, command, name, payload)
        where b.chain_id = d.chain_id and b.id = d.id
        returning d.run_id, d.id, d.command, d.name, d.payload
    ), counted as (
        select g.*, row_number() over (partition by run_id order by id) as nth,
               count(*) over (partition by run_id) as many from gone g
    ), noted as (
        update continuum_runs r set last_seq = r.last_seq + c.many
        from counted c where r.id = c.run_id and c.nth = 1
        returning r.id, r.last_seq - c.many as base
    )
    insert into continuum_events (run_id, seq, type, command, name, payload, at_us)
    select c.run_id, n.base + c.nth, 'message_undeliverable', c.command, c.name, c.payload,
           (extract(epoch from clock_timestamp()) * 1000000)::bigint
    from counted c join noted n on n.id = c.run_id
    returning 1
    """,
)


class PostgresUpkeep:
    """``Journal.upkeep``."""

    def __init__(self, database: Database, payloads: Payloads) -> None:
        self._database = database
        self._payloads = payloads

    def ensure_partitions(self, *, months_ahead: int) -> Sequence[str]:
        """Create missing partitions; move what the default one holds of their months."""
        with translated(self._database.names), self._database.engine.connect() as connection:
            connection.execution_options(isolation_level="READ COMMITTED")
            return create_partitions(connection, self._database.names, months_ahead=months_ahead)

    def misplaced_events(self) -> int:
        """Return how many events have no month, up to a thousand."""
        return int(self._database.run(MISPLACED)[0][0])

    def discard_dead_mail(self, *, limit: int = 1000) -> int:
        """Move mail of ended chains into their history, as notes."""
        with self._database.transaction() as session:
            found = session.run(DEAD_MAIL, integer(limit))
            if not found:
                return 0
            notes = [self._note(row[3], row[6]) for row in found]
            # Crash: the mail is gone and the note written together, or neither.
            gone = session.run(
                DISCARD,
                integers([row[0] for row in found]),
                ids([row[1] for row in found]),
                ids([row[2] for row in found]),
                integers([row[4] for row in found]),
                texts([row[5] for row in found]),
                texts(self._payloads.wrap_all(notes)),
            )
        return len(gone)

    def _note(self, kind: str, stored: str | None) -> str:
        payload = self._payloads.unwrap(stored)
        what = {"kind": kind, "payload": None if payload is None else msgspec.Raw(payload.encode())}
        return msgspec.json.encode(what).decode()
