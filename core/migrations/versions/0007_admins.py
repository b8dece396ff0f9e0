"""Who is an admin, as an index: the figure of admins is looked up every few seconds."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ADMINS = sa.text("""suspended_at IS NULL AND CAST(roles AS TEXT) LIKE '%"admin"%'""")


def upgrade() -> None:
    """Make the index; what the version before writes goes into it too."""
    op.create_index(
        "ix_accounts_admins",
        "accounts",
        ["controller_id"],
        sqlite_where=ADMINS,
        postgresql_where=ADMINS,
    )
