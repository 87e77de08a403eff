"""Here lives the record of code: which versions of workflows have been loaded, who needs them, who waits for one."""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from typing import Final

from continuum.journal.postgres.names import Statement

__all__ = [
    "LIST_VERSIONS",
    "LOCK_VERSIONS",
    "RECORD_VERSIONS",
    "RETIRE_VERSIONS",
    "REVIVE",
    "SOURCE_OF",
    "WITHDRAW",
]

# In order of the key, so that dispatchers which start at the same moment wait for each other in one direction only. A
# release before contracts recorded versions without one: whoever knows it fills it in. The retention is no part of the
# hash: that of the last who has loaded the code counts, and of two versions with one hash that of the later.
RECORD_VERSIONS: Final = Statement(
    "record_versions",
    """
    insert into continuum_workflow_versions as v (name, hash, version, retention_us, source, signals)
    select distinct on (name, hash) name, hash, version, retention_us, source, signals::json
    from unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::text[], $6::text[])
        as g(name, hash, version, retention_us, source, signals)
    order by name, hash, version desc
    on conflict (name, hash) do update
    set signals = coalesce(v.signals, excluded.signals), retention_us = excluded.retention_us
    where (v.signals is null and excluded.signals is not null) or v.retention_us is distinct from excluded.retention_us
    """,
)
SOURCE_OF: Final = Statement(
    "source_of",
    "select source from continuum_workflow_versions where name = $1::text and hash = $2::text",
)
WITHDRAW: Final = Statement(
    "withdraw",
    "update continuum_workers set version_hashes = $2::text[] where id = $1::uuid",
)

# No index has what is open: its state changes with each step, and no index may. So this reads all runs, once.
_OPEN: Final = """
    select r.workflow, r.version, r.version_hash as hash, count(*) as runs,
           count(*) filter (where r.state = 'stuck') as stuck, min(r.created_at) as oldest
    from continuum_runs r
    where r.state in ('pending', 'running', 'suspended', 'stuck')
    group by r.workflow, r.version, r.version_hash
"""
# One hash may belong to two versions (the number is no part of it) and is on record under the first.
LIST_VERSIONS: Final = Statement(
    "list_versions",
    f"""
    select coalesce(o.workflow, v.name) as workflow, coalesce(o.version, v.version) as version,
           coalesce(o.hash, v.hash) as hash, (extract(epoch from v.first_seen_at) * 1000000)::bigint,
           coalesce(o.runs, 0), coalesce(o.stuck, 0)
    from ({_OPEN}) o full join continuum_workflow_versions v on v.name = o.workflow and v.hash = o.hash
    order by 1, 2, coalesce(v.first_seen_at, o.oldest), 3
    """,
)
# A statement of its own before the other: a dispatcher registers before it records what it has loaded. One that starts
# at this moment is seen by the next statement's snapshot, or it waits here, finds the row gone and writes it again.
LOCK_VERSIONS: Final = Statement(
    "lock_versions",
    """
    select 1 from continuum_workflow_versions v
    where (v.name, v.hash) in (select g.name, g.hash from unnest($1::text[], $2::text[]) g(name, hash))
    order by v.name, v.hash for update
    """,
)
# A release before marks does not say what it has loaded, and would not write it again.
RETIRE_VERSIONS: Final = Statement(
    "retire_versions",
    f"""
    with needed as materialized (
        select o.workflow as name, o.hash from ({_OPEN}) o
        union
        select regexp_replace(m.mark, '^[^ ]* [^ ]* ', ''), split_part(m.mark, ' ', 1)
        from continuum_workers w cross join lateral unnest(w.version_hashes) m(mark)
    ), unmarked as materialized (
        select m.name from continuum_workers w cross join lateral unnest(w.workflows) m(name)
        where w.version_hashes = '{{}}'
    )
    delete from continuum_workflow_versions v
    using unnest($1::text[], $2::text[]) g(name, hash)
    where v.name = g.name and v.hash = g.hash and (v.name, v.hash) not in (select n.name, n.hash from needed n)
      and v.name not in (select u.name from unmarked u)
    returning v.name, v.hash
    """,
)

# How far apart revived runs come due: a replay takes about as long, and what works must not wait for all of theirs.
_APART: Final = "interval '2 milliseconds'"
# Only makes a run due that nobody holds, and never later than it was: who claims it just now has locked it.
REVIVE: Final = Statement(
    "revive",
    f"""
    with asleep as materialized (
        select s.id, s.stuck_since from unnest($1::text[], $2::int[]) w(name, version)
        cross join lateral (
            select r.id, r.stuck_since from continuum_runs r
            where r.workflow = w.name and r.version = w.version and r.stuck_since is not null
              and r.state = 'stuck' and r.lease_owner is null and r.grants = 0 and r.wake_at > now()
            order by r.stuck_since limit $3::int for no key update skip locked
        ) s
    ), woken as materialized (
        select a.id, now() + (row_number() over (order by a.stuck_since, a.id) - 1) * {_APART} as at from asleep a
    )
    update continuum_runs r set wake_at = least(r.wake_at, woken.at) from woken where r.id = woken.id
    returning r.id
    """,
)
