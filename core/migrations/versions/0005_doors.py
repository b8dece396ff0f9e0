"""Browser sessions, exports, and which processes play under a ticket."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make the tables, and let a ticket's row know who plays under it."""
    op.create_table(
        "browser_sessions",
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("login_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("fresh_until", sa.BigInteger(), nullable=False),
        sa.Column("refreshing_until", sa.BigInteger(), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("secret_sha256", name="pk_browser_sessions"),
        sa.UniqueConstraint("login_sha256", name="uq_browser_sessions_login_sha256"),
    )
    op.create_index("ix_browser_sessions_expires_at", "browser_sessions", ["expires_at"])
    op.create_index("ix_browser_sessions_actor_id", "browser_sessions", ["actor_id"])
    op.create_table(
        "exports",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("purpose", sa.String(length=30), nullable=False),
        sa.Column("recording_ids", sa.JSON(), nullable=False),
        sa.Column("recipient", sa.String(length=100), nullable=False),
        sa.Column("clear_bytes", sa.BigInteger(), nullable=False),
        sa.Column("approval_id", sa.String(length=30), nullable=True),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("requested_entry_id", sa.String(length=30), nullable=False),
        sa.Column("entry_id", sa.String(length=30), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_exports"),
    )
    op.create_index("ix_exports_controller_id_created_at", "exports", ["controller_id", "created_at"])
    op.add_column("listens", sa.Column("running", sa.JSON(), nullable=True))
