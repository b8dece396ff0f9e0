"""Who asked how often within a minute, for all replicas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "rate_windows",
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("hits", sa.BigInteger(), nullable=False),
        sa.Column("hits_before", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "actor_id", name="pk_rate_windows"),
    )
