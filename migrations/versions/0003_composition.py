"""Children, contracts of signals, and searches by time.

The format stays: code of the release before works on these tables, and this one's statements need the new columns.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        alter table continuum_runs add column parent_chain_id uuid, add column parent_command integer,
            add column parent_close text;
        create index continuum_runs_children on continuum_runs (parent_chain_id, id)
            where parent_chain_id is not null and is_tip;
        create index continuum_runs_created on continuum_runs (created_at, id);
        alter table continuum_workflow_versions add column signals json;
    """)
