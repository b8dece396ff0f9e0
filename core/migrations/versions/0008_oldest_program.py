"""How old a program may be that goes on using a newer schema: it must know this revision.

A later revision that takes something away sets this to the first revision whose programs do without
it, and comes a release later than they.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Keep the answer beside the version; programs before this one ask for an exact version."""
    op.add_column("alembic_version", sa.Column("oldest_program", sa.String(length=32)))
    op.execute("UPDATE alembic_version SET oldest_program = '0008'")
