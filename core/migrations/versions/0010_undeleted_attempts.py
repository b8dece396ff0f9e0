"""Which attempts' objects are still to be deleted, as an index: punctured ones stay for good."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
concurrently = True

UNDELETED = sa.text("state = 'punctured' AND object_deleted_at IS NULL")


def upgrade() -> None:
    """Build the index beside writers, anew where an earlier try did not come to its end."""
    op.drop_index("ix_attempts_undeleted", "attempts", if_exists=True, postgresql_concurrently=True)
    op.create_index(
        "ix_attempts_undeleted",
        "attempts",
        ["id"],
        sqlite_where=UNDELETED,
        postgresql_where=UNDELETED,
        postgresql_concurrently=True,
    )
