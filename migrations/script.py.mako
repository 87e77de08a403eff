"""${message}.

Old code keeps running on the new tables, and new code refuses the old ones with a clear message: only add, and raise
`format` in `continuum_schema` (and `FORMAT` in `tables.py`) when this release cannot work without the change.
"""

from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
    """)
