"""Accounts, grants, freezes, approvals and reviews: who may do what."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables of rights, and note under which right a listen was granted."""
    op.create_table(
        "account_reviews",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("quarter", sa.String(length=7), nullable=False),
        sa.Column("begun_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("grants_count", sa.BigInteger(), nullable=False),
        sa.Column("confirmed_count", sa.BigInteger(), nullable=True),
        sa.Column("lapsed_count", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_account_reviews"),
        sa.UniqueConstraint(
            "controller_id", "quarter", name="uq_account_reviews_controller_id_quarter"
        ),
    )
    op.create_table(
        "account_sessions",
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("session", sa.String(length=43), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("controller_id", "actor_id", "session", name="pk_account_sessions"),
    )
    op.create_index(
        "ix_account_sessions_last_seen_at", "account_sessions", ["last_seen_at"], unique=False
    )
    op.create_table(
        "accounts",
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("company", sa.String(length=200), nullable=False),
        sa.Column("roles", sa.JSON(), nullable=False),
        sa.Column("campaigns", sa.JSON(), nullable=True),
        sa.Column("token_issued_at", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("last_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("suspended_at", sa.BigInteger(), nullable=True),
        sa.Column("suspended_by", sa.String(length=30), nullable=True),
        sa.Column("suspended_why", sa.String(length=12), nullable=True),
        sa.Column("resumed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("controller_id", "actor_id", name="pk_accounts"),
    )
    op.create_table(
        "approvals",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("request_salt", sa.LargeBinary(length=32), nullable=False),
        sa.Column("request_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("requested_by", sa.String(length=30), nullable=False),
        sa.Column("requested_entry_id", sa.String(length=30), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("decided_at", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=30), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
    )
    op.create_index(
        "ix_approvals_controller_id_expires_at",
        "approvals",
        ["controller_id", "expires_at"],
        unique=False,
    )
    op.create_table(
        "freezes",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("scope", sa.String(length=10), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=True),
        sa.Column("grant_id", sa.String(length=30), nullable=True),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.String(length=30), nullable=False),
        sa.Column("set_entry_id", sa.String(length=30), nullable=False),
        sa.Column("lifted_at", sa.BigInteger(), nullable=True),
        sa.Column("lifted_by", sa.String(length=30), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_freezes"),
    )
    op.create_index(
        "ix_freezes_controller_id_lifted_at",
        "freezes",
        ["controller_id", "lifted_at"],
        unique=False,
    )
    op.create_table(
        "grants",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("company", sa.String(length=200), nullable=False),
        sa.Column("role", sa.String(length=20), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("purposes", sa.JSON(), nullable=False),
        sa.Column("from_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=True),
        sa.Column("listens_max", sa.BigInteger(), nullable=True),
        sa.Column("listens_used", sa.BigInteger(), nullable=False),
        sa.Column("given_at", sa.BigInteger(), nullable=False),
        sa.Column("given_by", sa.String(length=30), nullable=False),
        sa.Column("given_entry_id", sa.String(length=30), nullable=False),
        sa.Column("approval_id", sa.String(length=30), nullable=True),
        sa.Column("review_due_at", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_at", sa.BigInteger(), nullable=True),
        sa.Column("confirmed_by", sa.String(length=30), nullable=True),
        sa.Column("lapsed_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_by", sa.String(length=30), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_grants"),
    )
    op.create_index(
        "ix_grants_controller_id_actor_id", "grants", ["controller_id", "actor_id"], unique=False
    )
    op.create_table(
        "reason_reviews",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("listen_id", sa.String(length=30), nullable=False),
        sa.Column("recording_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("purpose", sa.String(length=30), nullable=False),
        sa.Column("listened_at", sa.BigInteger(), nullable=False),
        sa.Column("entry_id", sa.String(length=30), nullable=False),
        sa.Column("verdict", sa.String(length=12), nullable=True),
        sa.Column("judged_at", sa.BigInteger(), nullable=True),
        sa.Column("judged_by", sa.String(length=30), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_reason_reviews"),
        sa.UniqueConstraint("listen_id", name="uq_reason_reviews_listen_id"),
    )
    op.create_index(
        "ix_reason_reviews_controller_id_judged_at",
        "reason_reviews",
        ["controller_id", "judged_at"],
        unique=False,
    )
    op.add_column("campaigns", sa.Column("sensitive_purposes", sa.JSON(), nullable=True))
    op.add_column("listens", sa.Column("grant_id", sa.String(length=30), nullable=True))
    op.add_column("listens", sa.Column("role", sa.String(length=20), nullable=True))
    op.add_column("listens", sa.Column("approval_id", sa.String(length=30), nullable=True))
    op.create_index(
        "ix_listens_controller_id_actor_id",
        "listens",
        ["controller_id", "actor_id", "created_at"],
        unique=False,
    )
