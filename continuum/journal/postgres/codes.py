"""Here lives which code's runs a dispatcher may take: what claims and looks have to agree about, written once.

A run is pinned to code: (workflow, version, hash). Whoever has just that code loaded may take it; whoever has other
code of its workflow and version may try to adopt it, but only while no living worker has the very one. So dispatchers
of two releases of an app, side by side, each keep to their own runs, and what the last of the old ones leaves is taken
on by the new.

States of a free run that has something to do, seen from a dispatcher with code of its workflow and version:

=====================================  ===============================================================
its hash is loaded here                mine to take
else a living worker has its mark      left to that worker: until it dies, drains or takes it
else a living worker has no marks      (a release before them) left as well if that turns its workflow
else                                   mine to take: replayed, and adopted or set aside
=====================================  ===============================================================

Locks: none but those of the claim itself. Who lives is read in the statement's snapshot, so a worker that registers at
this moment may find a run of its own code just taken: it is then adopted, after a replay that matched, or stuck until
its back-off is over, when its own code takes it.

Cost: the code that free runs are pinned to is found by a skip scan over ``continuum_runs_code``, one probe for each,
however many runs that are; only then, and only of code that may be taken, are runs looked at. The marks of the living
are gathered at most once for a statement, and not at all where every run is pinned to what is loaded here.
"""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from collections.abc import Sequence
from typing import Final

from continuum.journal.postgres.literals import NOTHING, integers, sparse, texts

__all__ = ["DUE", "code_columns", "codes", "may_take"]

_MARK: Final = "{hash} || ' ' || {version} || ' ' || {workflow}"


def codes(names: str, versions: str, hashes: str) -> str:
    """Return the CTEs behind ``with recursive``: ``takeable`` has the code of free runs that may be taken."""
    return f"""
    loaded as materialized (
        select c.name, c.version, coalesce(c.hash, '') as hash
        from unnest({names}, {versions}, {hashes}) c(name, version, hash)
    ), held as materialized (
        select m.mark from continuum_workers w cross join lateral unnest(w.version_hashes) m(mark)
        where w.expires_at > clock_timestamp()
    ), unmarked as materialized (
        select m.name from continuum_workers w cross join lateral unnest(w.workflows) m(name)
        where w.expires_at > clock_timestamp() and w.version_hashes = '{{}}'
    ), pinned(workflow, version, hash) as (
        (select r.workflow, r.version, r.version_hash from continuum_runs r
         where r.lease_owner is null and r.wake_at is not null
           and (r.workflow, r.version, r.version_hash) > ('', 0, '')
         order by r.workflow, r.version, r.version_hash limit 1)
        union all
        select further.* from pinned p cross join lateral (
            select r.workflow, r.version, r.version_hash from continuum_runs r
            where r.lease_owner is null and r.wake_at is not null
              and (r.workflow, r.version, r.version_hash) > (p.workflow, p.version, p.hash)
            order by r.workflow, r.version, r.version_hash limit 1
        ) further
    ), takeable as materialized (
        select p.* from pinned p where {may_take("p.workflow", "p.version", "p.hash")}
    )"""


def may_take(workflow: str, version: str, version_hash: str) -> str:
    """Return the condition that a run of this code may be taken, behind the CTEs of `codes`."""
    mark = _MARK.format(hash=version_hash, version=version, workflow=workflow)
    # In this order: where all is loaded here nobody asks who lives.
    return f"""
        case when ({workflow}, {version}, {version_hash}) in (select l.name, l.version, l.hash from loaded l) then true
             when ({workflow}, {version}) in (select l.name, l.version from loaded l)
             then {mark} not in (select h.mark from held h) and {workflow} not in (select o.name from unmarked o)
             else false end"""


# A free run of some code ``c`` that is due.
DUE: Final = """
    r.workflow = c.workflow and r.version = c.version and r.version_hash = c.hash and r.lease_owner is null
              and r.wake_at is not null and r.wake_at <= now()"""


def code_columns(workflows: Sequence[tuple[str, int]], hashes: Sequence[str] = ()) -> tuple[str, str, str]:
    """Return names, versions and hashes as array literals."""
    given = [*hashes, *[None] * (len(workflows) - len(hashes))]
    return (
        texts([name for name, _ in workflows]),
        integers([version for _, version in workflows]),
        sparse(given) if given else NOTHING,
    )
