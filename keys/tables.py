"""Tables of the key tree. Clear columns only: ids, counters, digests, instants."""

from __future__ import annotations

import sqlalchemy as sa

from core.db import UtcMs, metadata

key_trees = sa.Table(
    "key_trees",
    metadata,
    # one row a controller, and one for the ledger's own tree; the pointer and the prefix counter
    sa.Column("controller_id", sa.String(30), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("provider_uri", sa.String(400), nullable=False),
    sa.Column("blob_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("changed_at", UtcMs, nullable=False),
    # epochs up to and including this one are confirmed destroyed; < epoch - 1 means step 6 is due
    sa.Column("destroyed_epoch", sa.BigInteger, nullable=False),
    sa.Column("next_prefix", sa.BigInteger, nullable=False),
)

key_counters = sa.Table(
    "key_counters",
    metadata,
    # leaf counters, one row a handed-out prefix; low_water: all below is living or punctured
    sa.Column("controller_id", sa.String(30), primary_key=True),
    sa.Column("prefix", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("next_index", sa.BigInteger, nullable=False),
    sa.Column("low_water", sa.BigInteger, nullable=False),
)

key_leases = sa.Table(
    "key_leases",
    metadata,
    sa.Column("owner", sa.String(64), primary_key=True),
    sa.Column("controller_id", sa.String(30), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    # which pointer the owner's memory follows; a recovery may give one epoch number out twice
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("renewed_at", UtcMs, nullable=False),
    sa.Column("expires_at", UtcMs, nullable=False, index=True),
)

key_blobs = sa.Table(
    "key_blobs",
    metadata,
    # the database as one of the blob places
    sa.Column("controller_id", sa.String(30), primary_key=True),
    sa.Column("sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("blob", sa.LargeBinary, nullable=False),
    sa.Column("stored_at", UtcMs, nullable=False),
)
