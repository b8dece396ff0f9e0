"""Browser sessions as rows, so that every replica knows them; who asked how often, likewise.

Only the SHA-256 of a session's secret is stored, and what the session knows of its person is sealed
under a key that is made from the secret itself: database and key folder together open no session.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from core.db import UtcMs, metadata

rate_windows: Final = sa.Table(
    "rate_windows",
    metadata,
    # one row a person and kind of request; the minute of seen_at and the one before are counted
    sa.Column("kind", sa.String(12), primary_key=True),
    sa.Column("actor_id", sa.String(30), primary_key=True),
    sa.Column("seen_at", UtcMs, nullable=False),
    sa.Column("hits", sa.BigInteger, nullable=False),
    sa.Column("hits_before", sa.BigInteger, nullable=False),
)

browser_sessions: Final = sa.Table(
    "browser_sessions",
    metadata,
    sa.Column("secret_sha256", sa.LargeBinary(32), primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),  # session, or offer: a link not used yet
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("actor_id", sa.String(30), nullable=False),
    # of the log-in that it came from: one log-in makes one session
    sa.Column("login_sha256", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("created_at", UtcMs, nullable=False),
    sa.Column("seen_at", UtcMs, nullable=False),
    sa.Column("expires_at", UtcMs, nullable=False),
    sa.Column("fresh_until", UtcMs, nullable=False),  # then the issuer is asked again
    sa.Column("refreshing_until", UtcMs),  # one request asks, the others wait
    sa.Column("sealed", sa.LargeBinary, nullable=False),
)
sa.Index("ix_browser_sessions_expires_at", browser_sessions.c.expires_at)
sa.Index("ix_browser_sessions_actor_id", browser_sessions.c.actor_id)
