"""The next release: this checkout's program in a folder of its own, with one revision more."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = ("core", "keys", "vault", "retention", "api")
VERSIONS: Final = Path("core", "migrations", "versions")

_HEAD: Final = '''"""{what}."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
{flag}

def upgrade() -> None:
    """Change the schema."""
'''
COLUMN: Final = 'op.add_column("recordings", sa.Column("shelf", sa.String(length=40)))'
DEFAULTED: Final = (
    'op.add_column("listens", sa.Column("heed", sa.Integer(), nullable=False, server_default="0"))'
)
TABLE: Final = (
    'op.create_table("notes", sa.Column("id", sa.String(length=30), nullable=False), '
    'sa.Column("controller_id", sa.String(length=30), nullable=False), '
    'sa.PrimaryKeyConstraint("id", name="pk_notes"))'
)
INDEX: Final = (
    'op.drop_index("ix_recordings_shelf", "recordings", if_exists=True, '
    "postgresql_concurrently=True)\n    "
    'op.create_index("ix_recordings_shelf", "recordings", ["shelf"], postgresql_concurrently=True)'
)
ADDITIVE: Final = (COLUMN, DEFAULTED, TABLE, INDEX)
BREAKING: Final = ('op.drop_column("recordings", "media_type")',)


@dataclass(frozen=True)
class Release:
    """A program in a folder: put ``folder`` first on the path, and it is the one that runs."""

    folder: Path
    head: str


def next_release(folder: Path, steps: tuple[str, ...] = ADDITIVE, *, version: str) -> Release:
    """Copy this program, raise its version, and add a revision for each step.

    Args:
        folder: a fresh one.
        steps: the body of each revision's ``upgrade``.
        version: what the new program calls itself.
    """
    for name in PACKAGES:
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    told = folder / "api" / "version.py"
    text = told.read_text().replace('metadata.version("oubliette")', f'"{version}"')
    told.write_text(text)
    return Release(folder, add_revisions(folder / VERSIONS, steps))


def add_revisions(versions: Path, steps: tuple[str, ...]) -> str:
    """Add a revision for each step after the last one; returns the new head."""
    for step in steps:
        before = max(path.name[:4] for path in versions.glob("0*.py"))
        revision = f"{int(before) + 1:04}"
        flag = "concurrently = True\n" if re.search("postgresql_concurrently", step) else ""
        head = _HEAD.format(what="Next", revision=revision, before=before, flag=flag)
        (versions / f"{revision}_next.py").write_text(f"{head}    {step}\n")
    return max(path.name[:4] for path in versions.glob("0*.py"))
