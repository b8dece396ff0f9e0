"""Tables of policies, holds and erasures; no free text, no number in clear."""

from __future__ import annotations

import sqlalchemy as sa

from core.db import UtcMs, metadata

policies = sa.Table(
    "policies",
    metadata,
    # every version is kept; the highest is in force
    sa.Column("campaign_id", sa.String(30), sa.ForeignKey("campaigns.id"), primary_key=True),
    sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("preset", sa.String(20)),
    sa.Column("retention", sa.String(20), nullable=False),  # ISO 8601 duration
    sa.Column("legal_basis", sa.String(40), nullable=False),
    sa.Column("balancing_text", sa.Text, nullable=False),
    sa.Column("justification", sa.Text, nullable=False),
    sa.Column("set_at", UtcMs, nullable=False),
    sa.Column("set_by", sa.String(30), nullable=False),
)

holds = sa.Table(
    "holds",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("kind", sa.String(12), nullable=False),  # hold restriction
    sa.Column("scope", sa.String(10), nullable=False),  # recording person campaign vault
    sa.Column("controller_id", sa.String(30), nullable=False),  # "" never; vault scope: the DPO's
    sa.Column("campaign_id", sa.String(30)),
    sa.Column("placed_at", UtcMs, nullable=False),
    sa.Column("placed_by", sa.String(30), nullable=False),
    sa.Column("placed_entry_id", sa.String(30), nullable=False),
    sa.Column("lifted_at", UtcMs),
    sa.Column("lifted_by", sa.String(30)),
    sa.Column("review_on", sa.String(10)),
    sa.Column("from_restore", sa.Boolean, nullable=False),
)
sa.Index("ix_holds_controller_id", holds.c.controller_id, holds.c.lifted_at)

hold_recordings = sa.Table(
    "hold_recordings",
    metadata,
    sa.Column("hold_id", sa.String(30), sa.ForeignKey("holds.id"), primary_key=True),
    sa.Column("recording_id", sa.String(30), primary_key=True),
)
sa.Index("ix_hold_recordings_recording_id", hold_recordings.c.recording_id)

erasures = sa.Table(
    "erasures",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("kind", sa.String(12), nullable=False),  # recording list person campaign expiry
    sa.Column("state", sa.String(24), nullable=False),
    # planned approved running waiting-key-provider done refused
    sa.Column("campaign_id", sa.String(30)),
    sa.Column("legal_ground", sa.String(40), nullable=False),
    sa.Column("plan_digest", sa.LargeBinary(32), nullable=False),
    sa.Column("planned_at", UtcMs, nullable=False),
    sa.Column("planned_by", sa.String(30), nullable=False),
    sa.Column("approved_at", UtcMs),
    sa.Column("approved_by", sa.String(30)),
    sa.Column("inaccessible_at", UtcMs),
    sa.Column("destroyed_at", UtcMs),
    sa.Column("epoch_before", sa.BigInteger),
    sa.Column("epoch_after", sa.BigInteger),
    sa.Column("destroyed_key_ids", sa.JSON),
    sa.Column("provider_uris", sa.JSON),
    sa.Column("limits", sa.JSON),
    sa.Column("done_at", UtcMs),
    sa.Column("braked", sa.Boolean, nullable=False),
    # an erasure by person runs again when the attempts open at its step 1 have ended
    sa.Column("person_sealed", sa.LargeBinary),
    sa.Column("person_index", sa.BigInteger),
    sa.Column("rerun_of", sa.String(30)),
    sa.Column("rerun_state", sa.String(8)),  # NULL waiting done
    sa.Column("shred_entry_id", sa.String(30)),
    sa.Column("certificate_id", sa.String(30), unique=True),
    sa.Column("certificate", sa.Text),
    sa.Column("certified_at", UtcMs),
)
sa.Index("ix_erasures_state", erasures.c.state)
sa.Index("ix_erasures_controller_id", erasures.c.controller_id, erasures.c.planned_at)

erasure_items = sa.Table(
    "erasure_items",
    metadata,
    sa.Column("erasure_id", sa.String(30), sa.ForeignKey("erasures.id"), primary_key=True),
    sa.Column("recording_id", sa.String(30), primary_key=True),
    sa.Column("refusal", sa.String(30)),  # a code when the plan leaves it alone
)
sa.Index("ix_erasure_items_recording_id", erasure_items.c.recording_id)

erasure_attempts = sa.Table(
    "erasure_attempts",
    metadata,
    # attempts open at step 1 of an erasure by person
    sa.Column("erasure_id", sa.String(30), sa.ForeignKey("erasures.id"), primary_key=True),
    sa.Column("attempt_id", sa.String(30), primary_key=True),
)

sweep_runs = sa.Table(
    "sweep_runs",
    metadata,
    # one row a run and campaign; the row of no campaign ("") says what the clock was believed last
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("campaign_id", sa.String(30), nullable=False),
    sa.Column("ran_at", UtcMs, nullable=False),
    sa.Column("due_count", sa.BigInteger, nullable=False),
    sa.Column("erased_count", sa.BigInteger, nullable=False),
    sa.Column("forecast_count", sa.BigInteger, nullable=False),  # what the next run expects
    sa.Column("braked_erasure_id", sa.String(30)),
)
sa.Index("ix_sweep_runs_campaign_id", sweep_runs.c.campaign_id, sweep_runs.c.ran_at)

set_aside_objects = sa.Table(
    "set_aside_objects",
    metadata,
    # found by a restore, with neither row nor deposit entry: an officer releases or erases each
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("object_key", sa.String(1024), nullable=False, unique=True),
    sa.Column("controller_id", sa.String(30), nullable=False),  # "" when its header does not say
    sa.Column("campaign_id", sa.String(30)),
    sa.Column("recording_id", sa.String(30)),
    sa.Column("prefix", sa.BigInteger),
    sa.Column("leaf_index", sa.BigInteger),
    sa.Column("why", sa.String(40), nullable=False),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    sa.Column("found_at", UtcMs, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),  # waiting released erased
    sa.Column("decided_at", UtcMs),
    sa.Column("decided_by", sa.String(30)),
)
sa.Index(
    "ix_set_aside_objects_controller_id",
    set_aside_objects.c.controller_id,
    set_aside_objects.c.state,
)

restore_deposits = sa.Table(
    "restore_deposits",
    metadata,
    # while a restore runs: deposits whose texts are forgotten, by what their leaves keep
    sa.Column("commitment", sa.LargeBinary(32), primary_key=True),
    sa.Column("entry_id", sa.String(30), nullable=False),
)

work_leases = sa.Table(
    "work_leases",
    metadata,
    # which process does what one process suffices for (retention.work_lease)
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("owner", sa.String(64), nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),  # counts takeovers
    sa.Column("taken_at", UtcMs, nullable=False),
    sa.Column("renewed_at", UtcMs, nullable=False),
    sa.Column("expires_at", UtcMs, nullable=False),
)
