"""Snapshots, which code each worker has loaded, and since when a run is stuck.

The format stays: code of the release before works on these tables, and this one's statements need the new columns.

The runs that are free and due are looked up by the code they are pinned to as well. The release before asks for them
without it: while its dispatchers run beside newer ones, each of its claims sorts what is free of one workflow.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        create table continuum_snapshots (
            run_id uuid primary key,
            made_at timestamptz not null default clock_timestamp(),
            through_seq integer not null,
            format integer not null,
            body text not null
        );
        alter table continuum_workers add column version_hashes text[] not null default '{}';
        alter table continuum_runs add column stuck_since timestamptz;
        create index continuum_runs_code on continuum_runs (workflow, version, version_hash, wake_at)
            where lease_owner is null and wake_at is not null;
        drop index continuum_runs_due;
        create index continuum_runs_stuck on continuum_runs (workflow, version, stuck_since)
            where stuck_since is not null;
    """)
