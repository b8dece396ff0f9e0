"""Objects that a restore set aside, and the deposits it looks objects up by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "set_aside_objects",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("object_key", sa.String(length=1024), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("recording_id", sa.String(length=30), nullable=True),
        sa.Column("prefix", sa.BigInteger(), nullable=True),
        sa.Column("leaf_index", sa.BigInteger(), nullable=True),
        sa.Column("why", sa.String(length=40), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("found_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=30), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_set_aside_objects"),
        sa.UniqueConstraint("object_key", name="uq_set_aside_objects_object_key"),
    )
    op.create_index(
        "ix_set_aside_objects_controller_id",
        "set_aside_objects",
        ["controller_id", "state"],
        unique=False,
    )
    op.create_table(
        "restore_deposits",
        sa.Column("commitment", sa.LargeBinary(length=32), nullable=False),
        sa.Column("entry_id", sa.String(length=30), nullable=False),
        sa.PrimaryKeyConstraint("commitment", name="pk_restore_deposits"),
    )
