"""Here live the parts of a group commit that only runs need that reach out: children, letters, attributes, successors.

They follow the longest of the ordinary texts (see `commit_texts`), in the order in which it happens:

1. ``shown`` and ``worn``: which rows of attributes will be changed or copied, and those of them that could be locked.
   One that is locked elsewhere counts like a locked run: all of its run is left out.
2. ``written`` returns the runs that continue as new. Their ``is_tip`` is off then, because a successor is read from
   what it returns: a chain never has two tips, and whoever looks from outside always sees one.
3. ``handed_on``: the attributes of those runs, as they are when nobody can change them any more. A row that somebody
   has inserted since the statement's snapshot cannot be read, only met by an insert: so each of these runs gets one.
4. ``born``: the rows of children and successors. What a child inherits is looked up by its parent's key.
5. ``made``, ``begun``, ``dressed``: their runs, their first events; their attributes and those that a decision set.
6. ``told``: letters, reports and cascades, in one insert and in this order, so that what a run has sent to a child
   comes before its cancel request.

# Invariant: no other run's row is locked. Who is told is read from the statement's snapshot: a child or a parent that
ends at this very moment gets a letter nobody reads, and upkeep notes that; one that continues as new gets it as a
chain. No child escapes a cascade: only its parent's owner starts it, and the parent's row is locked.
# Invariant: children and successors are inserted plainly. Their ids derive from a run and a command of it (or its
end), and that run's row is locked at the ``last_seq`` on which they were ordered, so a conflict means a bug; it is an
error, which leaves the run stuck with its reason, where ``on conflict do nothing`` would leave it waiting for ever.
# Invariant: attributes that do not exist yet cannot be locked. `set_attributes` shares a lock on the run's row while it
inserts the first ones, and is seen by that; somebody's own SQL is not. Then, and only then, this text waits, for the
end of that statement (``lock_timeout`` is the backstop), and merges.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from typing import Final

from continuum.journal.postgres.relatives import ENDED_STATES, children, parent
from continuum.journal.postgres.wide import numbers

__all__ = [
    "ALL_WORN",
    "ATTRIBUTES_FLAG",
    "BEQUEATHED",
    "CASCADE_CANCEL",
    "CASCADE_CLOSE",
    "CONTINUED_FLAG",
    "LETTER",
    "LETTER_TO_NEWBORN",
    "NO_TIP",
    "REACH",
    "REPORT",
    "WORN",
]

# Bits of a run's flags, after those of `commit_texts`.
CONTINUED_FLAG: Final = 4  # it hands its place as the tip on
ATTRIBUTES_FLAG: Final = 8  # its attributes are changed or copied

# What a letter is, and whose id it comes with.
LETTER: Final = 0  # to a chain, unless that has ended
LETTER_TO_NEWBORN: Final = 1  # to the chain of a child of the same decision, whose row nobody can see yet
REPORT: Final = 2  # to a parent, which is a run, unless that has ended
CASCADE_CANCEL: Final = 3  # to the open children of a chain
CASCADE_CLOSE: Final = 4  # the same, to each what its policy says; the payload is for those that end without their code

WORN: Final = f"""
    ), shown as materialized (
        select i.place, a.run_id from input i cross join lateral (
            select a.run_id from continuum_attributes a where a.run_id = i.run_id offset 0
        ) a
        where i.flags & {ATTRIBUTES_FLAG} <> 0
    ), worn as materialized (
        select s.place, a.attributes from shown s join continuum_attributes a on a.run_id = s.run_id
        for no key update of a skip locked
"""
ALL_WORN: Final = """
            union all select place, 0, 0, -1 from shown
            union all select place, 0, 0, 1 from worn
"""

NO_TIP: Final = f""",
            is_tip = r.is_tip and {{flags}} & {CONTINUED_FLAG} = 0"""
BEQUEATHED: Final = """
        returning i.place, i.flags, r.id, r.chain_id, r.namespace, r.workflow, r.version, r.version_hash,
                  r.trace_context, r.parent_id, r.parent_chain_id, r.parent_command, r.parent_close"""

# By place: what a decision sets ($35), and the successor's id, hash, version and ``run_started`` ($36 to $39).
_SET: Final = "($35::text[])[{place}]::jsonb"
_CASCADES: Final = f"x.what >= {CASCADE_CANCEL}"
_CLOSES: Final = f"x.what = {CASCADE_CLOSE}"
REACH: Final = f"""
    , handed_on as (
        insert into continuum_attributes as a (run_id, attributes)
        select w.id, coalesce({_SET.format(place="w.place")}, '{{}}') from written w
        where w.flags & {CONTINUED_FLAG} <> 0
        on conflict (run_id) do update set attributes = a.attributes || excluded.attributes
        returning a.run_id, a.attributes
    ), born as materialized (
        select x.id, x.id as chain_id, p.namespace, x.workflow, x.version, x.hash, p.trace_context, x.started,
               p.id as parent_id, p.chain_id as parent_chain_id, x.command::int as parent_command,
               x.close as parent_close, null::uuid as continued_from,
               case when coalesce(p.attributes, p.newest, x.attributes) is not null
                   then coalesce(p.attributes, '{{}}') || coalesce(p.newest, '{{}}') || coalesce(x.attributes, '{{}}')
                   end as attributes
        from (
            select t.*, {numbers("$23", "t.n", ("place", "command", "version"))}
            from unnest($24::uuid[], $25::text[], $26::text[], $27::text[], $28::json[], $29::jsonb[])
                with ordinality as t(id, workflow, hash, close, started, attributes, n)
        ) x
        cross join lateral (
            select r.id, r.chain_id, r.namespace, r.trace_context, {_SET.format(place="x.place")} as newest,
                   (select a.attributes from continuum_attributes a where a.run_id = r.id) as attributes
            from continuum_runs r where r.id = ($2::uuid[])[x.place] offset 0
        ) p
        where (select runs from good)[x.place]
        union all
        select ($36::uuid[])[w.place], w.chain_id, w.namespace, w.workflow,
               coalesce(($38::bigint[])[w.place], w.version), coalesce(($37::text[])[w.place], w.version_hash),
               w.trace_context, ($39::json[])[w.place], w.parent_id, w.parent_chain_id, w.parent_command,
               w.parent_close, w.id, nullif(a.attributes, '{{}}')
        from written w left join handed_on a on a.run_id = w.id
        where w.flags & {CONTINUED_FLAG} <> 0
    ), made as (
        insert into continuum_runs (id, chain_id, namespace, workflow, version, version_hash, trace_context, state,
                                    last_seq, wake_at, parent_id, parent_chain_id, parent_command, parent_close,
                                    continued_from)
        select id, chain_id, namespace, workflow, version, hash, trace_context, 'pending', 1, now(), parent_id,
               parent_chain_id, parent_command, parent_close, continued_from
        from born
    ), begun as (
        insert into continuum_events (run_id, seq, type, payload, at_us)
        select id, 1, 'run_started', started, (extract(epoch from clock_timestamp()) * 1000000)::bigint from born
    ), dressed as (
        insert into continuum_attributes as a (run_id, attributes)
        select id, attributes from born where attributes is not null
        union all
        select i.run_id, {_SET.format(place="i.place")} from input i
        where {_SET.format(place="i.place")} is not null and (select runs from good)[i.place]
          and i.flags & {CONTINUED_FLAG} = 0
        on conflict (run_id) do update set attributes = a.attributes || excluded.attributes
    ), told as (
        insert into continuum_inbox (chain_id, run_id, kind, command, name, payload)
        select t.chain_id, t.run_id, t.kind, t.command, x.name, t.payload
        from (
            select t.*, {numbers("$30", "t.n", ("place", "what", "command"))}
            from unnest($31::uuid[], $32::text[], $33::text[], $34::json[]) with ordinality
                as t(id, kind, name, payload, n)
        ) x
        cross join lateral (
            select x.id as chain_id, null::uuid as run_id, x.kind, null::int as command, x.payload
            where x.what = {LETTER_TO_NEWBORN}
            union all
            select t.chain_id, null, x.kind, null, x.payload from continuum_runs t
            where x.what = {LETTER} and t.chain_id = x.id and t.is_tip and t.state not in ({ENDED_STATES})
            union all
            select p.chain_id, p.run_id, x.kind, x.command::int, x.payload
            from ({parent(run_id="x.id", given=f"x.what = {REPORT}")}) p
            union all
            select c.chain_id, null, c.kind, null, case when c.ends then x.payload end
            from ({children(chain_id="x.id", closes=_CLOSES, given=_CASCADES)}) c
        ) t
        where (select runs from good)[x.place]
    )"""
