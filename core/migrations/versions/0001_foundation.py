"""Foundation: campaigns, recordings, listens, the ledger's queue, key trees, retention."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make every table of the first release."""
    op.create_table(
        "controllers",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("slug", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_controllers"),
        sa.UniqueConstraint("slug", name="uq_controllers_slug"),
    )
    op.create_table(
        "erasures",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("legal_ground", sa.String(length=40), nullable=False),
        sa.Column("plan_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("planned_at", sa.BigInteger(), nullable=False),
        sa.Column("planned_by", sa.String(length=30), nullable=False),
        sa.Column("approved_at", sa.BigInteger(), nullable=True),
        sa.Column("approved_by", sa.String(length=30), nullable=True),
        sa.Column("inaccessible_at", sa.BigInteger(), nullable=True),
        sa.Column("destroyed_at", sa.BigInteger(), nullable=True),
        sa.Column("epoch_before", sa.BigInteger(), nullable=True),
        sa.Column("epoch_after", sa.BigInteger(), nullable=True),
        sa.Column("destroyed_key_ids", sa.JSON(), nullable=True),
        sa.Column("provider_uris", sa.JSON(), nullable=True),
        sa.Column("limits", sa.JSON(), nullable=True),
        sa.Column("done_at", sa.BigInteger(), nullable=True),
        sa.Column("braked", sa.Boolean(), nullable=False),
        sa.Column("person_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("person_index", sa.BigInteger(), nullable=True),
        sa.Column("rerun_of", sa.String(length=30), nullable=True),
        sa.Column("rerun_state", sa.String(length=8), nullable=True),
        sa.Column("shred_entry_id", sa.String(length=30), nullable=True),
        sa.Column("certificate_id", sa.String(length=30), nullable=True),
        sa.Column("certificate", sa.Text(), nullable=True),
        sa.Column("certified_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_erasures"),
        sa.UniqueConstraint("certificate_id", name="uq_erasures_certificate_id"),
    )
    op.create_index(
        "ix_erasures_controller_id", "erasures", ["controller_id", "planned_at"], unique=False
    )
    op.create_index("ix_erasures_state", "erasures", ["state"], unique=False)
    op.create_table(
        "holds",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("scope", sa.String(length=10), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("placed_at", sa.BigInteger(), nullable=False),
        sa.Column("placed_by", sa.String(length=30), nullable=False),
        sa.Column("placed_entry_id", sa.String(length=30), nullable=False),
        sa.Column("lifted_at", sa.BigInteger(), nullable=True),
        sa.Column("lifted_by", sa.String(length=30), nullable=True),
        sa.Column("review_on", sa.String(length=10), nullable=True),
        sa.Column("from_restore", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_holds"),
    )
    op.create_index("ix_holds_controller_id", "holds", ["controller_id", "lifted_at"], unique=False)
    op.create_table(
        "key_blobs",
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("controller_id", "sha256", name="pk_key_blobs"),
    )
    op.create_table(
        "key_counters",
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("prefix", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("next_index", sa.BigInteger(), nullable=False),
        sa.Column("low_water", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("controller_id", "prefix", name="pk_key_counters"),
    )
    op.create_table(
        "key_leases",
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("renewed_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "controller_id", name="pk_key_leases"),
    )
    op.create_index("ix_key_leases_expires_at", "key_leases", ["expires_at"], unique=False)
    op.create_table(
        "key_trees",
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.String(length=64), nullable=False),
        sa.Column("provider_uri", sa.String(length=400), nullable=False),
        sa.Column("blob_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("destroyed_epoch", sa.BigInteger(), nullable=False),
        sa.Column("next_prefix", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("controller_id", name="pk_key_trees"),
    )
    op.create_table(
        "ledger_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("root_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("published_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("size", name="pk_ledger_checkpoints"),
    )
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("type", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=True),
        sa.Column("recording_id", sa.String(length=30), nullable=True),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("happened_at", sa.BigInteger(), nullable=False),
        sa.Column("queued_at", sa.BigInteger(), nullable=False),
        sa.Column("month", sa.BigInteger(), nullable=False),
        sa.Column("leaf", sa.LargeBinary(), nullable=False),
        sa.Column("leaf_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("sealed_text", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_narrative", sa.LargeBinary(), nullable=True),
        sa.Column("narrative_prefix", sa.BigInteger(), nullable=True),
        sa.Column("narrative_index", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_entries"),
        sa.UniqueConstraint("seq", name="uq_ledger_entries_seq"),
    )
    op.create_index(
        "ix_ledger_entries_controller_at",
        "ledger_entries",
        ["controller_id", "happened_at"],
        unique=False,
    )
    op.create_index(
        "ix_ledger_entries_epochs",
        "ledger_entries",
        ["controller_id", "happened_at"],
        unique=False,
        sqlite_where=sa.text("type = 'epoch-changed'"),
        postgresql_where=sa.text("type = 'epoch-changed'"),
    )
    op.create_index(
        "ix_ledger_entries_queue",
        "ledger_entries",
        ["queued_at"],
        unique=False,
        sqlite_where=sa.text("seq IS NULL"),
        postgresql_where=sa.text("seq IS NULL"),
    )
    op.create_index(
        "ix_ledger_entries_recording_id", "ledger_entries", ["recording_id"], unique=False
    )
    op.create_table(
        "searches",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("rows_total", sa.BigInteger(), nullable=False),
        sa.Column("rows_done", sa.BigInteger(), nullable=False),
        sa.Column("recording_ids", sa.JSON(), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_searches"),
    )
    op.create_table(
        "sweep_runs",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("ran_at", sa.BigInteger(), nullable=False),
        sa.Column("due_count", sa.BigInteger(), nullable=False),
        sa.Column("erased_count", sa.BigInteger(), nullable=False),
        sa.Column("forecast_count", sa.BigInteger(), nullable=False),
        sa.Column("braked_erasure_id", sa.String(length=30), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_sweep_runs"),
    )
    op.create_index(
        "ix_sweep_runs_campaign_id", "sweep_runs", ["campaign_id", "ran_at"], unique=False
    )
    op.create_table(
        "vaults",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("ledger_controller_id", sa.String(length=30), nullable=False),
        sa.Column("ledger_origin", sa.String(length=200), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_vaults"),
    )
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("slug", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("prefix", sa.BigInteger(), nullable=False),
        sa.Column("processor", sa.String(length=200), nullable=False),
        sa.Column("listen_purposes", sa.JSON(), nullable=False),
        sa.Column("countries", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=True),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["controller_id"], ["controllers.id"], name="fk_campaigns_controller_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
        sa.UniqueConstraint("controller_id", "prefix", name="uq_campaigns_controller_id_prefix"),
        sa.UniqueConstraint("controller_id", "slug", name="uq_campaigns_controller_id_slug"),
    )
    op.create_table(
        "erasure_attempts",
        sa.Column("erasure_id", sa.String(length=30), nullable=False),
        sa.Column("attempt_id", sa.String(length=30), nullable=False),
        sa.ForeignKeyConstraint(
            ["erasure_id"], ["erasures.id"], name="fk_erasure_attempts_erasure_id"
        ),
        sa.PrimaryKeyConstraint("erasure_id", "attempt_id", name="pk_erasure_attempts"),
    )
    op.create_table(
        "erasure_items",
        sa.Column("erasure_id", sa.String(length=30), nullable=False),
        sa.Column("recording_id", sa.String(length=30), nullable=False),
        sa.Column("refusal", sa.String(length=30), nullable=True),
        sa.ForeignKeyConstraint(
            ["erasure_id"], ["erasures.id"], name="fk_erasure_items_erasure_id"
        ),
        sa.PrimaryKeyConstraint("erasure_id", "recording_id", name="pk_erasure_items"),
    )
    op.create_index(
        "ix_erasure_items_recording_id", "erasure_items", ["recording_id"], unique=False
    )
    op.create_table(
        "hold_recordings",
        sa.Column("hold_id", sa.String(length=30), nullable=False),
        sa.Column("recording_id", sa.String(length=30), nullable=False),
        sa.ForeignKeyConstraint(["hold_id"], ["holds.id"], name="fk_hold_recordings_hold_id"),
        sa.PrimaryKeyConstraint("hold_id", "recording_id", name="pk_hold_recordings"),
    )
    op.create_index(
        "ix_hold_recordings_recording_id", "hold_recordings", ["recording_id"], unique=False
    )
    op.create_table(
        "attempts",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("recording_id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("prefix", sa.BigInteger(), nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.String(length=64), nullable=False),
        sa.Column("external_tag", sa.LargeBinary(length=32), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("object_deleted_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_attempts_campaign_id"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint(
            "controller_id",
            "prefix",
            "leaf_index",
            name="uq_attempts_controller_id_prefix_leaf_index",
        ),
        sa.UniqueConstraint("object_key", name="uq_attempts_object_key"),
        sa.UniqueConstraint("recording_id", name="uq_attempts_recording_id"),
    )
    op.create_index("ix_attempts_state_seen_at", "attempts", ["state", "seen_at"], unique=False)
    op.create_index(
        "uq_attempts_open_external_tag",
        "attempts",
        ["campaign_id", "external_tag"],
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_table(
        "deposit_keys",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("kind", sa.String(length=4), nullable=False),
        sa.Column("label", sa.String(length=80), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("external_id_mac", sa.LargeBinary(length=32), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=30), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_deposit_keys_campaign_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_deposit_keys"),
        sa.UniqueConstraint("secret_sha256", name="uq_deposit_keys_secret_sha256"),
    )
    op.create_table(
        "external_ids",
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("week", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tag", sa.LargeBinary(length=32), nullable=False),
        sa.Column("recording_id", sa.String(length=30), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_external_ids_campaign_id"
        ),
        sa.PrimaryKeyConstraint("campaign_id", "week", "tag", name="pk_external_ids"),
    )
    op.create_table(
        "policies",
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("version", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("preset", sa.String(length=20), nullable=True),
        sa.Column("retention", sa.String(length=20), nullable=False),
        sa.Column("legal_basis", sa.String(length=40), nullable=False),
        sa.Column("balancing_text", sa.Text(), nullable=False),
        sa.Column("justification", sa.Text(), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.Column("set_by", sa.String(length=30), nullable=False),
        sa.ForeignKeyConstraint(["campaign_id"], ["campaigns.id"], name="fk_policies_campaign_id"),
        sa.PrimaryKeyConstraint("campaign_id", "version", name="pk_policies"),
    )
    op.create_table(
        "recordings",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("prefix", sa.BigInteger(), nullable=False),
        sa.Column("leaf_index", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("object_key", sa.String(length=64), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("retention_from", sa.BigInteger(), nullable=False),
        sa.Column("deadline_override_at", sa.BigInteger(), nullable=True),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.Column("clear_bytes", sa.BigInteger(), nullable=False),
        sa.Column("duration_ms", sa.BigInteger(), nullable=False),
        sa.Column("duration_estimated", sa.Boolean(), nullable=False),
        sa.Column("codec", sa.String(length=24), nullable=False),
        sa.Column("media_type", sa.String(length=60), nullable=False),
        sa.Column("browser_playable", sa.Boolean(), nullable=False),
        sa.Column("direction", sa.String(length=10), nullable=False),
        sa.Column("oddities", sa.JSON(), nullable=False),
        sa.Column("commitment", sa.LargeBinary(length=32), nullable=False),
        sa.Column("body_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("wrapped_dek", sa.LargeBinary(), nullable=True),
        sa.Column("sealed_metadata", sa.LargeBinary(), nullable=True),
        sa.Column("metadata_version", sa.BigInteger(), nullable=False),
        sa.Column("erasure_id", sa.String(length=30), nullable=True),
        sa.Column("inaccessible_at", sa.BigInteger(), nullable=True),
        sa.Column("shredded_at", sa.BigInteger(), nullable=True),
        sa.Column("deleted_at", sa.BigInteger(), nullable=True),
        sa.Column("deposit_entry_id", sa.String(length=30), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_recordings_campaign_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_recordings"),
        sa.UniqueConstraint(
            "controller_id",
            "prefix",
            "leaf_index",
            name="uq_recordings_controller_id_prefix_leaf_index",
        ),
        sa.UniqueConstraint("object_key", name="uq_recordings_object_key"),
    )
    op.create_index(
        "ix_recordings_campaign_started_at",
        "recordings",
        ["campaign_id", "started_at", "id"],
        unique=False,
    )
    op.create_index(
        "ix_recordings_campaign_state_from",
        "recordings",
        ["campaign_id", "state", "retention_from"],
        unique=False,
    )
    op.create_index(
        "ix_recordings_controller_started_at",
        "recordings",
        ["controller_id", "started_at", "id"],
        unique=False,
    )
    op.create_index("ix_recordings_erasure_id", "recordings", ["erasure_id"], unique=False)
    op.create_index("ix_recordings_state", "recordings", ["state"], unique=False)
    op.create_table(
        "listens",
        sa.Column("id", sa.String(length=30), nullable=False),
        sa.Column("recording_id", sa.String(length=30), nullable=False),
        sa.Column("controller_id", sa.String(length=30), nullable=False),
        sa.Column("campaign_id", sa.String(length=30), nullable=False),
        sa.Column("actor_id", sa.String(length=30), nullable=False),
        sa.Column("purpose", sa.String(length=30), nullable=False),
        sa.Column("ticket_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("cookie_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("byte_budget", sa.BigInteger(), nullable=False),
        sa.Column("bytes_sent", sa.BigInteger(), nullable=False),
        sa.Column("covered", sa.JSON(), nullable=False),
        sa.Column("entry_id", sa.String(length=30), nullable=False),
        sa.Column("closing_entry_id", sa.String(length=30), nullable=True),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recordings.id"], name="fk_listens_recording_id"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_listens"),
        sa.UniqueConstraint("ticket_sha256", name="uq_listens_ticket_sha256"),
    )
    op.create_index(
        "ix_listens_recording_id", "listens", ["recording_id", "created_at"], unique=False
    )
    op.create_index("ix_listens_state_expires_at", "listens", ["state", "expires_at"], unique=False)
