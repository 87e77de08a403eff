"""Tasks of external executors.

Dispatched and expired tasks are found by index; `published_at`, which nothing ever wrote, goes. The format stays:
code of the release before works on these tables, and this one's statements name no column that they lack.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Tasks are what is open just now: building an index over them takes a moment, and commits wait it out.
    op.execute("""
        alter table continuum_tasks drop column published_at;
        create index continuum_tasks_due on continuum_tasks (executor, available_at) where state = 'available';
        create index continuum_tasks_expiring on continuum_tasks (lease_expires_at) where lease_expires_at is not null;
    """)
