"""Here lives what is told about a run beside its history: attributes set from outside, and values it has published.

Attributes are merged by one statement into the row of the tip. A commit that continues that run as new copies that row,
and locks it for that; so one of both comes first, and if that was the commit, the merge is done again, at the new tip.
Where there is no row yet there is nothing to lock: the first merge shares a lock on the run's own row while it lasts,
which that commit holds too.

# Crash: a merge is written or not. Where the answer is lost, asking again changes nothing.
"""

from collections.abc import Mapping
from typing import Final

from continuum.errors import JournalError
from continuum.journal.postgres.database import Database
from continuum.journal.postgres.history import read_events
from continuum.journal.postgres.literals import text
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.payloads import Payloads
from continuum.journal.postgres.terminations import not_found
from continuum.model.events import Event
from continuum.model.ids import RunId

__all__ = ["FIRST_MERGE", "MERGE", "PUBLISHED", "TIP", "find_published", "merge_attributes", "tip_of"]

MERGE: Final = Statement(
    "merge_attributes",
    """
    with tip as materialized (
        select t.id from continuum_runs r join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
        where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)
    ), merged as (
        update continuum_attributes a set attributes = a.attributes || $3::jsonb from tip where a.run_id = tip.id
        returning a.run_id
    )
    select id, exists (select 1 from merged) from tip
    """,
)
FIRST_MERGE: Final = Statement(
    "first_merge",
    """
    with tip as materialized (
        select t.id from continuum_runs r join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
        where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)
        for share of t
    ), merged as (
        insert into continuum_attributes as a (run_id, attributes) select id, $3::jsonb from tip
        on conflict (run_id) do update set attributes = a.attributes || excluded.attributes
    )
    select id from tip
    """,
)
TIP: Final = Statement(
    "tip",
    """
    select t.id from continuum_runs r join continuum_runs t on t.chain_id = r.chain_id and t.is_tip
    where r.id = $1::uuid and ($2::text is null or r.namespace = $2::text)
    """,
)
# The last of each name is found by number; only its payload is read.
PUBLISHED: Final = Statement(
    "published",
    """
    select e.seq, e.type, e.command, e.name, e.payload::text, e.at_us, e.location
    from (
        select max(p.seq) as seq from continuum_events p
        where p.run_id = $1::uuid and p.type = 'value_published' group by p.name
    ) l
    join continuum_events e on e.run_id = $1::uuid and e.seq = l.seq
    order by e.seq
    """,
)


def merge_attributes(database: Database, run_id: RunId, attributes: str, *, namespace: str | None) -> None:
    """Merge a JSON object into the attributes of the tip of the run's chain."""
    if not attributes.lstrip().startswith("{"):
        raise JournalError(f"attributes are no JSON object: {attributes[:80]!r}")
    arguments = text(run_id), text(namespace)
    while True:
        found = database.run(MERGE, *arguments, text(attributes))
        if not found:
            raise not_found(run_id, namespace)
        [(tip, merged)] = found
        if not merged:
            # Nothing, where the commit that was waited for has handed the tip on.
            merged = bool(database.run(FIRST_MERGE, *arguments, text(attributes)))
        if merged and database.run(TIP, *arguments) == [(tip,)]:
            return


def tip_of(database: Database, run_id: RunId, *, namespace: str | None) -> RunId:
    """Return the last run of the run's chain. Raises ``RunNotFound``."""
    found = database.run(TIP, text(run_id), text(namespace))
    if not found:
        raise not_found(run_id, namespace)
    return RunId(found[0][0])


def find_published(
    database: Database, payloads: Payloads, run_id: RunId, *, namespace: str | None
) -> Mapping[str, Event]:
    """Return the last event of each name that the tip of the run's chain has published."""
    tip = tip_of(database, run_id, namespace=namespace)
    events = read_events(database.run(PUBLISHED, text(tip)), payloads)
    return {event.name or "": event for event in events}
