"""Here lives the question which patches the open runs have answered."""

# ruff: noqa: S608 - statements are put together from texts of our own, never from values

from typing import Final

from continuum.journal.postgres.database import Database
from continuum.journal.postgres.names import Statement
from continuum.journal.postgres.relatives import ENDED_STATES
from continuum.model.patches import PatchUse

__all__ = ["PATCHES", "find_patches"]

# For operators, and seldom: it reads the table of runs through, and the histories of those that are open.
PATCHES: Final = Statement(
    "patches",
    f"""
    select u.workflow, u.version, u.version_hash, u.began, u.adopted, u.patches, count(*)::int
    from (
        select r.workflow, r.version, r.version_hash, e.began, e.adopted, e.patches
        from continuum_runs r
        cross join lateral (
            select coalesce(bool_or(e.type = 'run_began'), false) as began,
                   coalesce(bool_or(e.type = 'version_adopted'), false) as adopted,
                   coalesce(array_agg(distinct e.name) filter (where e.type = 'patch_marked'), '{{}}') as patches
            from continuum_events e
            where e.run_id = r.id and e.type in ('run_began', 'version_adopted', 'patch_marked')
        ) e
        where r.is_tip and r.state not in ({ENDED_STATES})
    ) u
    group by u.workflow, u.version, u.version_hash, u.began, u.adopted, u.patches
    """,
)


def find_patches(database: Database) -> list[PatchUse]:
    """Return the open runs, counted, by what they have answered."""
    return sorted(
        PatchUse(name, version, version_hash, began, adopted, tuple(sorted(patches)), runs)
        for name, version, version_hash, began, adopted, patches, runs in database.run(PATCHES)
    )
