"""Tables of campaigns, recordings and listens.

Nothing personal stands in clear: numbers, agents, names and free text live sealed under the
recording's own leaf (``sealed_metadata``) and die with it. Times of calls are cut to the minute.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from core.db import UtcMs, metadata

# whose object may still lie in the store; as partial indexes and queries both spell it
UNDELETED_ATTEMPT: Final = sa.text("state = 'punctured' AND object_deleted_at IS NULL")
TAGGED_ATTEMPT: Final = sa.text("external_tag IS NOT NULL")
UNDELETED_RECORDING: Final = sa.text("state = 'shredded'")

vaults = sa.Table(
    "vaults",
    metadata,
    # exactly one row
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("ledger_controller_id", sa.String(30), nullable=False),
    sa.Column("ledger_origin", sa.String(200), nullable=False),
    sa.Column("created_at", UtcMs, nullable=False),
)

controllers = sa.Table(
    "controllers",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("slug", sa.String(40), nullable=False, unique=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),  # active shredding shredded
    sa.Column("created_at", UtcMs, nullable=False),
)

campaigns = sa.Table(
    "campaigns",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), sa.ForeignKey("controllers.id"), nullable=False),
    sa.Column("slug", sa.String(40), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),  # draft open closed shredding shredded
    sa.Column("prefix", sa.BigInteger, nullable=False),
    sa.Column("processor", sa.String(200), nullable=False),
    sa.Column("listen_purposes", sa.JSON, nullable=False),
    sa.Column("countries", sa.JSON, nullable=False),
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("opened_at", UtcMs),
    sa.Column("closed_at", UtcMs),
    sa.Column("sensitive_purposes", sa.JSON),  # those that want a second person; NULL is none
    sa.UniqueConstraint("controller_id", "slug"),
    sa.UniqueConstraint("controller_id", "prefix"),
)

deposit_keys = sa.Table(
    "deposit_keys",
    metadata,
    # long-lived keys of a PBX (kind key) and short-lived upload addresses (kind url)
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("campaign_id", sa.String(30), sa.ForeignKey("campaigns.id"), nullable=False),
    sa.Column("kind", sa.String(4), nullable=False),
    sa.Column("label", sa.String(80), nullable=False),
    sa.Column("secret_sha256", sa.LargeBinary(32), nullable=False, unique=True),
    # kind url: HMAC of the one external id it takes, keyed with the token; not its bare hash
    sa.Column("external_id_mac", sa.LargeBinary(32)),
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("created_by", sa.String(30), nullable=False),
    sa.Column("expires_at", UtcMs),
    sa.Column("revoked_at", UtcMs),
    sa.Column("used_at", UtcMs),
)

attempts = sa.Table(
    "attempts",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("recording_id", sa.String(30), nullable=False, unique=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("campaign_id", sa.String(30), sa.ForeignKey("campaigns.id"), nullable=False),
    sa.Column("prefix", sa.BigInteger, nullable=False),
    sa.Column("leaf_index", sa.BigInteger, nullable=False),
    sa.Column("object_key", sa.String(64), nullable=False, unique=True),
    sa.Column("external_tag", sa.LargeBinary(32)),
    sa.Column("state", sa.String(10), nullable=False),  # open stored refused abandoned punctured
    sa.Column("owner", sa.String(64), nullable=False),  # the process that holds it
    sa.Column("started_at", UtcMs, nullable=False),
    sa.Column("seen_at", UtcMs, nullable=False),  # refreshed by the owner; silent = dead
    sa.Column("object_deleted_at", UtcMs),
    sa.UniqueConstraint("controller_id", "prefix", "leaf_index"),
)
sa.Index(
    "uq_attempts_open_external_tag",
    attempts.c.campaign_id,
    attempts.c.external_tag,
    unique=True,
    sqlite_where=sa.text("state = 'open'"),
    postgresql_where=sa.text("state = 'open'"),
)
sa.Index("ix_attempts_state_seen_at", attempts.c.state, attempts.c.seen_at)
sa.Index(
    "ix_attempts_undeleted",
    attempts.c.id,
    sqlite_where=UNDELETED_ATTEMPT,
    postgresql_where=UNDELETED_ATTEMPT,
)
sa.Index(
    "ix_attempts_tagged",
    attempts.c.campaign_id,
    attempts.c.started_at,
    sqlite_where=TAGGED_ATTEMPT,
    postgresql_where=TAGGED_ATTEMPT,
)

recordings = sa.Table(
    "recordings",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("campaign_id", sa.String(30), sa.ForeignKey("campaigns.id"), nullable=False),
    sa.Column("prefix", sa.BigInteger, nullable=False),
    sa.Column("leaf_index", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # stored erasing shredded deleted
    sa.Column("object_key", sa.String(64), nullable=False, unique=True),
    sa.Column("started_at", UtcMs, nullable=False),  # to the minute
    sa.Column("retention_from", UtcMs, nullable=False),
    sa.Column("deadline_override_at", UtcMs),
    sa.Column("stored_at", UtcMs, nullable=False),
    sa.Column("clear_bytes", sa.BigInteger, nullable=False),
    sa.Column("duration_ms", sa.BigInteger, nullable=False),
    sa.Column("duration_estimated", sa.Boolean, nullable=False),
    sa.Column("codec", sa.String(24), nullable=False),
    sa.Column("media_type", sa.String(60), nullable=False),
    sa.Column("browser_playable", sa.Boolean, nullable=False),
    sa.Column("direction", sa.String(10), nullable=False),  # inbound outbound internal unknown
    sa.Column("oddities", sa.JSON, nullable=False),
    sa.Column("commitment", sa.LargeBinary(32), nullable=False),
    sa.Column("body_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("wrapped_dek", sa.LargeBinary),  # NULL from shredded on
    sa.Column("sealed_metadata", sa.LargeBinary),  # NULL from shredded on
    sa.Column("metadata_version", sa.BigInteger, nullable=False),
    sa.Column("erasure_id", sa.String(30)),
    sa.Column("inaccessible_at", UtcMs),
    sa.Column("shredded_at", UtcMs),
    sa.Column("deleted_at", UtcMs),
    sa.Column("deposit_entry_id", sa.String(30), nullable=False),
    sa.UniqueConstraint("controller_id", "prefix", "leaf_index"),
)
sa.Index(
    "ix_recordings_campaign_started_at",
    recordings.c.campaign_id,
    recordings.c.started_at,
    recordings.c.id,
)
sa.Index(
    "ix_recordings_controller_started_at",
    recordings.c.controller_id,
    recordings.c.started_at,
    recordings.c.id,
)
sa.Index(
    "ix_recordings_campaign_state_from",
    recordings.c.campaign_id,
    recordings.c.state,
    recordings.c.retention_from,
)
sa.Index("ix_recordings_erasure_id", recordings.c.erasure_id)
sa.Index("ix_recordings_state", recordings.c.state)
sa.Index(
    "ix_recordings_undeleted",
    recordings.c.id,
    sqlite_where=UNDELETED_RECORDING,
    postgresql_where=UNDELETED_RECORDING,
)

external_ids = sa.Table(
    "external_ids",
    metadata,
    # tag = HMAC under the reserved leaf of (campaign, week); noise once that leaf is punctured
    sa.Column("campaign_id", sa.String(30), sa.ForeignKey("campaigns.id"), primary_key=True),
    sa.Column("week", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("tag", sa.LargeBinary(32), primary_key=True),
    sa.Column("recording_id", sa.String(30), nullable=False),
)

listens = sa.Table(
    "listens",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("recording_id", sa.String(30), sa.ForeignKey("recordings.id"), nullable=False),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("campaign_id", sa.String(30), nullable=False),
    sa.Column("actor_id", sa.String(30), nullable=False),
    sa.Column("purpose", sa.String(30), nullable=False),
    sa.Column("ticket_sha256", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("cookie_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),  # open closed expired revoked
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("expires_at", UtcMs, nullable=False),
    sa.Column("ended_at", UtcMs),
    sa.Column("byte_budget", sa.BigInteger, nullable=False),
    sa.Column("bytes_sent", sa.BigInteger, nullable=False),
    sa.Column("covered", sa.JSON, nullable=False),  # [[first, last], ...] clear bytes delivered
    sa.Column("entry_id", sa.String(30), nullable=False),
    sa.Column("closing_entry_id", sa.String(30)),
    sa.Column("running", sa.JSON),  # which processes play under it: vault.stream_turns
    sa.Column("grant_id", sa.String(30)),  # NULL where the token's claims were the right
    sa.Column("role", sa.String(20)),  # under which it was granted
    sa.Column("approval_id", sa.String(30)),
)
sa.Index("ix_listens_recording_id", listens.c.recording_id, listens.c.created_at)
sa.Index("ix_listens_state_expires_at", listens.c.state, listens.c.expires_at)
sa.Index(
    "ix_listens_controller_id_actor_id",
    listens.c.controller_id,
    listens.c.actor_id,
    listens.c.created_at,
)

exports = sa.Table(
    "exports",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("actor_id", sa.String(30), nullable=False),
    sa.Column("kind", sa.String(8), nullable=False),  # export, or download: of one recording
    sa.Column("state", sa.String(10), nullable=False),  # planned running done
    sa.Column("purpose", sa.String(30), nullable=False),
    sa.Column("recording_ids", sa.JSON, nullable=False),
    sa.Column("recipient", sa.String(100), nullable=False),  # an age public key
    sa.Column("clear_bytes", sa.BigInteger, nullable=False),
    sa.Column("approval_id", sa.String(30)),
    sa.Column("attempts", sa.BigInteger, nullable=False),
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("expires_at", UtcMs, nullable=False),
    sa.Column("began_at", UtcMs),
    sa.Column("ended_at", UtcMs),
    sa.Column("bytes_sent", sa.BigInteger, nullable=False),
    sa.Column("requested_entry_id", sa.String(30), nullable=False),
    sa.Column("entry_id", sa.String(30)),
)
sa.Index("ix_exports_controller_id_created_at", exports.c.controller_id, exports.c.created_at)

searches = sa.Table(
    "searches",
    metadata,
    # a whole-vault search as a job; what was searched for is held in memory only
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("actor_id", sa.String(30), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),  # running done failed
    sa.Column("rows_total", sa.BigInteger, nullable=False),
    sa.Column("rows_done", sa.BigInteger, nullable=False),
    sa.Column("recording_ids", sa.JSON, nullable=False),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("ended_at", UtcMs),
)

ledger_entries = sa.Table(
    "ledger_entries",
    metadata,
    # the queue (seq NULL) and the index of the ledger, which itself lies beside the database
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("seq", sa.BigInteger, unique=True),
    sa.Column("type", sa.String(30), nullable=False),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("campaign_id", sa.String(30)),
    sa.Column("recording_id", sa.String(30)),
    sa.Column("actor_id", sa.String(30), nullable=False),
    sa.Column("happened_at", UtcMs, nullable=False),
    sa.Column("queued_at", UtcMs, nullable=False),
    sa.Column("month", sa.BigInteger, nullable=False),  # which leaf of the ledger's tree seals it
    sa.Column("leaf", sa.LargeBinary, nullable=False),
    sa.Column("leaf_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("sealed_text", sa.LargeBinary, nullable=False),
    sa.Column("sealed_narrative", sa.LargeBinary),
    sa.Column("narrative_prefix", sa.BigInteger),  # the recording's leaf, else the month's
    sa.Column("narrative_index", sa.BigInteger),
)
sa.Index(
    "ix_ledger_entries_queue",
    ledger_entries.c.queued_at,
    sqlite_where=sa.text("seq IS NULL"),
    postgresql_where=sa.text("seq IS NULL"),
)
sa.Index("ix_ledger_entries_recording_id", ledger_entries.c.recording_id)
sa.Index(
    "ix_ledger_entries_controller_at", ledger_entries.c.controller_id, ledger_entries.c.happened_at
)

sa.Index(
    "ix_ledger_entries_epochs",
    ledger_entries.c.controller_id,
    ledger_entries.c.happened_at,
    sqlite_where=sa.text("type = 'epoch-changed'"),
    postgresql_where=sa.text("type = 'epoch-changed'"),
)

ledger_checkpoints = sa.Table(
    "ledger_checkpoints",
    metadata,
    sa.Column("size", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("root_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("note", sa.Text),  # NULL until signed
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("published_at", UtcMs),
)
