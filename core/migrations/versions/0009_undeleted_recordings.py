"""Which recordings' objects are still to be deleted, as an index: a run walked the whole table."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
concurrently = True

UNDELETED = sa.text("state = 'shredded'")


def upgrade() -> None:
    """Build the index beside writers, anew where an earlier try did not come to its end."""
    op.drop_index(
        "ix_recordings_undeleted", "recordings", if_exists=True, postgresql_concurrently=True
    )
    op.create_index(
        "ix_recordings_undeleted",
        "recordings",
        ["id"],
        sqlite_where=UNDELETED,
        postgresql_where=UNDELETED,
        postgresql_concurrently=True,
    )
