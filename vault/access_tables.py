"""Tables of who may do what: accounts, grants, freezes, approvals and reviews.

People stand here as pseudonyms alone; why something was given, frozen or asked for stands in its
ledger entry. Instants are the database's; a right ends by itself when its instant has come.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from core.db import UtcMs, metadata

accounts = sa.Table(
    "accounts",
    metadata,
    # what the newest token of each caller said; made by its first request
    sa.Column("controller_id", sa.String(30), primary_key=True),
    sa.Column("actor_id", sa.String(30), primary_key=True),
    sa.Column("kind", sa.String(8), nullable=False),  # person service
    sa.Column("company", sa.String(200), nullable=False),  # "" is the controller's own staff
    sa.Column("roles", sa.JSON, nullable=False),
    sa.Column("campaigns", sa.JSON),  # slugs; NULL is every campaign
    sa.Column("token_issued_at", UtcMs, nullable=False),
    sa.Column("first_seen_at", UtcMs, nullable=False),
    sa.Column("last_seen_at", UtcMs, nullable=False),  # to the minute
    sa.Column("suspended_at", UtcMs),
    sa.Column("suspended_by", sa.String(30)),
    sa.Column("suspended_why", sa.String(12)),  # dormant decided
    sa.Column("resumed_at", UtcMs),
)
# an admin whom nobody suspended, in the words of the index, so that both engines follow it
IS_ADMIN: Final = sa.text("""suspended_at IS NULL AND CAST(roles AS TEXT) LIKE '%"admin"%'""")
sa.Index(
    "ix_accounts_admins",
    accounts.c.controller_id,
    sqlite_where=IS_ADMIN,
    postgresql_where=IS_ADMIN,
)

account_sessions = sa.Table(
    "account_sessions",
    metadata,
    # one log-in at the issuer; two that overlap are two people, or one person twice
    sa.Column("controller_id", sa.String(30), primary_key=True),
    sa.Column("actor_id", sa.String(30), primary_key=True),
    sa.Column("session", sa.String(43), primary_key=True),
    sa.Column("first_seen_at", UtcMs, nullable=False),
    sa.Column("last_seen_at", UtcMs, nullable=False),
)
sa.Index("ix_account_sessions_last_seen_at", account_sessions.c.last_seen_at)

grants = sa.Table(
    "grants",
    metadata,
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("actor_id", sa.String(30), nullable=False),  # whose right it is
    sa.Column("company", sa.String(200), nullable=False),
    sa.Column("role", sa.String(20), nullable=False),
    sa.Column("campaign_id", sa.String(30)),  # NULL is every campaign of the controller
    sa.Column("purposes", sa.JSON, nullable=False),
    sa.Column("from_at", UtcMs, nullable=False),
    sa.Column("until_at", UtcMs),  # excluded; NULL has no end of its own
    sa.Column("listens_max", sa.BigInteger),
    sa.Column("listens_used", sa.BigInteger, nullable=False),
    sa.Column("given_at", UtcMs, nullable=False),
    sa.Column("given_by", sa.String(30), nullable=False),
    sa.Column("given_entry_id", sa.String(30), nullable=False),
    sa.Column("approval_id", sa.String(30)),
    sa.Column("review_due_at", UtcMs),  # set by an account review; past it the grant has lapsed
    sa.Column("confirmed_at", UtcMs),
    sa.Column("confirmed_by", sa.String(30)),
    sa.Column("lapsed_at", UtcMs),
    sa.Column("revoked_at", UtcMs),
    sa.Column("revoked_by", sa.String(30)),
)
sa.Index("ix_grants_controller_id_actor_id", grants.c.controller_id, grants.c.actor_id)

freezes = sa.Table(
    "freezes",
    metadata,
    # one of the three names what is frozen; "everything" names none
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("scope", sa.String(10), nullable=False),  # account grant campaign everything
    sa.Column("actor_id", sa.String(30)),
    sa.Column("grant_id", sa.String(30)),
    sa.Column("campaign_id", sa.String(30)),
    sa.Column("set_at", UtcMs, nullable=False),
    sa.Column("set_by", sa.String(30), nullable=False),
    sa.Column("set_entry_id", sa.String(30), nullable=False),
    sa.Column("lifted_at", UtcMs),
    sa.Column("lifted_by", sa.String(30)),
)
sa.Index("ix_freezes_controller_id_lifted_at", freezes.c.controller_id, freezes.c.lifted_at)

approvals = sa.Table(
    "approvals",
    metadata,
    # a second person's word on one exact request; good once, for a day
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("campaign_id", sa.String(30)),
    sa.Column("request", sa.JSON, nullable=False),  # ids, counts and codes; never a reason
    sa.Column("request_salt", sa.LargeBinary(32), nullable=False),
    sa.Column("request_sha256", sa.LargeBinary(32), nullable=False),
    sa.Column("state", sa.String(8), nullable=False),  # asked approved refused used
    sa.Column("requested_at", UtcMs, nullable=False),
    sa.Column("requested_by", sa.String(30), nullable=False),
    sa.Column("requested_entry_id", sa.String(30), nullable=False),
    sa.Column("expires_at", UtcMs, nullable=False),
    sa.Column("decided_at", UtcMs),
    sa.Column("decided_by", sa.String(30)),
    sa.Column("used_at", UtcMs),
)
sa.Index("ix_approvals_controller_id_expires_at", approvals.c.controller_id, approvals.c.expires_at)

account_reviews = sa.Table(
    "account_reviews",
    metadata,
    # one a controller and quarter
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("quarter", sa.String(7), nullable=False),  # 2026-Q1
    sa.Column("begun_at", UtcMs, nullable=False),
    sa.Column("due_at", UtcMs, nullable=False),
    sa.Column("closed_at", UtcMs),
    sa.Column("grants_count", sa.BigInteger, nullable=False),
    sa.Column("confirmed_count", sa.BigInteger),  # once closed
    sa.Column("lapsed_count", sa.BigInteger),
    sa.UniqueConstraint("controller_id", "quarter"),
)

reason_reviews = sa.Table(
    "reason_reviews",
    metadata,
    # a past listen drawn at random, for the DPO to judge its reason
    sa.Column("id", sa.String(30), primary_key=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("listen_id", sa.String(30), nullable=False, unique=True),
    sa.Column("recording_id", sa.String(30), nullable=False),
    sa.Column("campaign_id", sa.String(30), nullable=False),
    sa.Column("actor_id", sa.String(30), nullable=False),
    sa.Column("purpose", sa.String(30), nullable=False),
    sa.Column("listened_at", UtcMs, nullable=False),
    sa.Column("entry_id", sa.String(30), nullable=False),
    sa.Column("verdict", sa.String(12)),  # NULL until judged: sound doubtful abusive
    sa.Column("judged_at", UtcMs),
    sa.Column("judged_by", sa.String(30)),
)
sa.Index(
    "ix_reason_reviews_controller_id_judged_at",
    reason_reviews.c.controller_id,
    reason_reviews.c.judged_at,
)
