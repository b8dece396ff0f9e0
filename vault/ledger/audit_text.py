"""Entries of the ledger as lines of text: JSON Lines, and CSV that no spreadsheet executes. Pure.

JSON Lines: one object an entry, members always the same, UTF-8, newline after each.

CSV (RFC 4180): a line of names, then one line an entry, every cell in quotes. A cell whose first
character, after blanks, is one with which a spreadsheet begins a formula gets an apostrophe before
it: ``= + - @``, their full-width forms, tabulator, carriage return and line feed.

Does not protect against: a program that strips the apostrophe and evaluates the rest.

Source: OWASP, CSV Injection; RFC 4180.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from typing import Any, Final

COLUMNS: Final = (
    "entry_id",
    "index",
    "type",
    "access",
    "at",
    "campaign_id",
    "recording_id",
    "actor_id",
    "actor_name",
    "actor_kind",
    "actor_roles",
    "actor_company",
    "purpose",
    "outcome",
    "delivered_s",
    "reason",
    "facts",
    "state",
)
_FORMULA: Final = frozenset("=+-@\t\r\n＝＋－＠")  # noqa: RUF001  # full-width on purpose
_BLANKS: Final = " \u00a0\u3000\u200b\ufeff\0"
_OF_ACTOR: Final = {
    "actor_id": "id",
    "actor_name": "subject",
    "actor_kind": "kind",
    "actor_roles": "roles",
    "actor_company": "company",
}


def json_line(shown: Mapping[str, Any]) -> str:
    """Return an entry as one line of JSON."""
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")) + "\n"


def csv_head() -> str:
    """Return the line of names."""
    return _line(COLUMNS)


def csv_line(shown: Mapping[str, Any]) -> str:
    """Return an entry as one record, every cell safe."""
    actor = shown["actor"] or {}
    flat = dict(shown) | {name: actor.get(of) for name, of in _OF_ACTOR.items()}
    return _line([safe_cell(_cell(flat[name])) for name in COLUMNS])


def safe_cell(text: str) -> str:
    """Return a cell that a spreadsheet takes for text."""
    begins = text.lstrip(_BLANKS)[:1]
    return f"'{text}" if begins in _FORMULA and begins else text


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return " ".join(map(str, value))
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return str(value)


def _line(cells: Any) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(cells)
    return out.getvalue()
