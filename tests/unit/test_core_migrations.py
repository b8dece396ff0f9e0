"""Every migration is one that the release before goes on working beside; the breaking are found."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.migration_rules import faults

FOLDER: Final = Path(__file__).parents[2] / "core" / "migrations" / "versions"
REVISIONS: Final = sorted(FOLDER.glob("0*.py"))
# made before there was a release that it could have stopped
BEFORE_A_RELEASE: Final = {
    "0003_rights": [
        "create_index: holds listens while it is built",
        "holds several tables at once: campaigns, listens",
    ],
}
HEAD: Final = 'revision = "0010"\ndown_revision = "0009"\n'
FLOOR: Final = "op.execute(\"UPDATE alembic_version SET oldest_program = '{}'\")\n"
TABLE: Final = 'op.create_table("notes", sa.Column("id", sa.String(30), nullable=False))\n'
COLUMN: Final = 'op.add_column("holds", sa.Column("n", sa.Text()))\n'
INDEX: Final = 'op.create_index("ix_x", "recordings", ["x"], postgresql_concurrently=True)\n'
AGAIN: Final = 'op.drop_index("ix_x", if_exists=True, postgresql_concurrently=True)\n'


@pytest.mark.parametrize("path", REVISIONS[1:], ids=lambda path: path.stem)
def test_the_release_before_goes_on_beside_it(path: Path) -> None:
    assert faults(path.read_text()) == BEFORE_A_RELEASE.get(path.stem, [])


def test_revisions_are_a_row() -> None:
    numbers = [path.name[:4] for path in REVISIONS]
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]


@pytest.mark.parametrize(
    "text",
    [
        TABLE + 'op.create_index("ix_notes_id", "notes", ["id"], unique=True)\n',
        'op.add_column("recordings", sa.Column("note", sa.String(30)))\n',
        'op.add_column("holds", sa.Column("n", sa.Text(), nullable=False, server_default="0"))\n',
        'op.create_index("ix_campaigns_x", "campaigns", ["x"])\n',
        "concurrently = True\n" + AGAIN + INDEX,
        'op.drop_column("recordings", "note")\n' + FLOOR.format("0009"),
    ],
)
def test_what_suits_is_let_through(text: str) -> None:
    assert faults(HEAD + text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('op.drop_column("recordings", "note")\n', "drop_column"),
        ('op.drop_table("recordings")\n', "drop_table"),
        ('op.drop_column("listens", "role")\n' + FLOOR.format("0010"), "shuts out"),
        ('op.rename_table("recordings", "calls")\n', "rename_table"),
        ('op.alter_column("recordings", "note", new_column_name="x")\n', "alter_column"),
        ('op.alter_column("recordings", "note", type_=sa.Text())\n', "alter_column"),
        ('op.add_column("recordings", sa.Column("n", sa.Text(), nullable=False))\n', "add_column"),
        ('op.add_column("recordings", sa.Column("n", sa.Text(), unique=True))\n', "add_column"),
        (
            'op.add_column("recordings", sa.Column("n", sa.Text(), sa.ForeignKey("x.y")))\n',
            "add_column",
        ),
        ('op.create_index("ix_x", "recordings", ["x"])\n', "create_index: holds"),
        ('op.create_index("ix_x", "campaigns", ["x"], unique=True)\n', "create_index: unique"),
        (AGAIN + INDEX, "concurrently = True"),
        ("concurrently = True\n" + INDEX, "is alone"),
        ("concurrently = True\n", "concurrently = True"),
        ("concurrently = True\n" + AGAIN + INDEX + COLUMN, "is alone"),
        ('op.drop_index("ix_x", "recordings")\n', "drop_index"),
        ('op.create_unique_constraint("uq_x", "recordings", ["x"])\n', "create_unique"),
        ("op.execute(\"UPDATE recordings SET note = ''\")\n", "execute"),
        (COLUMN + COLUMN.replace("holds", "listens"), "several tables"),
    ],
)
def test_what_would_stop_or_break_the_release_before_is_found(text: str, fault: str) -> None:
    assert any(fault in one for one in faults(HEAD + text)), faults(HEAD + text)
