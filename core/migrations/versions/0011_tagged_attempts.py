"""Which attempts still have the tag of an external id, as an index: most lose theirs in weeks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
concurrently = True

TAGGED = sa.text("external_tag IS NOT NULL")


def upgrade() -> None:
    """Build the index beside writers, anew where an earlier try did not come to its end."""
    op.drop_index("ix_attempts_tagged", "attempts", if_exists=True, postgresql_concurrently=True)
    op.create_index(
        "ix_attempts_tagged",
        "attempts",
        ["campaign_id", "started_at"],
        sqlite_where=TAGGED,
        postgresql_where=TAGGED,
        postgresql_concurrently=True,
    )
