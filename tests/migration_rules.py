"""What a migration may do while the release before goes on working on the same tables.

Read from the text of a revision: a closed list of operations, each with what it may be given. What
is not on the list is refused, so that a new kind is thought about first.

Does not see: what a new program writes into old columns and the release before cannot read.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

# tables of a few rows a controller: an index over them is there at once
SMALL: Final = frozenset({"accounts", "campaigns", "controllers", "grants", "policies", "vaults"})
VERSION: Final = "alembic_version"
_FLOOR: Final = re.compile(r"UPDATE alembic_version SET oldest_program = '([0-9]{4})'")
_TAKES_AWAY: Final = frozenset({"drop_column", "drop_table", "drop_constraint"})


@dataclass(frozen=True)
class _Call:
    """One ``op.name(...)``."""

    name: str
    node: ast.Call

    @property
    def words(self) -> list[str]:
        """Return the plain texts among the arguments."""
        return [str(one.value) for one in self.node.args if isinstance(one, ast.Constant)]

    def given(self, name: str) -> bool:
        """Tell whether an option is there and not False or None."""
        return _option(self.node, name) not in {None, "False", "None"}


def faults(source: str) -> list[str]:
    """Return what would stop, or break, the release before; empty when nothing would."""
    tree = ast.parse(source)
    named = _constants(tree)
    calls = list(_operations(tree))
    new = {one.words[0] for one in calls if one.name == "create_table"}
    floor = next(filter(None, map(_floor, calls)), "")
    found = [fault for one in calls for fault in _faults_of(one, new, kept_away=bool(floor))]
    old = {_table(one) for one in calls} - new - {VERSION, ""}
    if len(old) > 1:
        found.append(f"holds several tables at once: {', '.join(sorted(old))}")
    if floor and floor > named.get("down_revision", "") and named.get("revision") != "0008":
        found.append("shuts out the release before: oldest_program is above down_revision")
    beside = [one.given("postgresql_concurrently") for one in calls]
    if any(beside) != (named.get("concurrently") == "True"):
        found.append("concurrently = True belongs to an index that is built beside writers")
    if any(beside) and [one.name for one in calls] != ["drop_index", "create_index"]:
        found.append("an index beside writers is alone: dropped if it is there, then built")
    return found


def _faults_of(call: _Call, new: set[str], *, kept_away: bool) -> Iterator[str]:
    if call.name in _TAKES_AWAY and kept_away:
        return
    if call.name in _TAKES_AWAY:
        yield f"{call.name}: the release before still uses it"
    elif call.name == "create_index":
        yield from _faults_of_index(call, new)
    elif call.name in _KNOWN:
        yield from _KNOWN[call.name](call)
    else:
        yield f"{call.name}: not known to suit the release before"


def _faults_of_table(call: _Call) -> Iterator[str]:
    """A table that nobody knows yet is in nobody's way."""
    del call
    return iter(())


def _faults_of_dropped(call: _Call) -> Iterator[str]:
    if not (call.given("postgresql_concurrently") and call.given("if_exists")):
        yield "drop_index: only one that did not come to its end"


def _faults_of_statement(call: _Call) -> Iterator[str]:
    if not _floor(call):
        yield "execute: data is moved by the program, not under a lock"


def _faults_of_column(call: _Call) -> Iterator[str]:
    column = call.node.args[1]
    assert isinstance(column, ast.Call)
    if _option(column, "nullable") == "False" and _option(column, "server_default") is None:
        yield "add_column: the release before writes rows without it"
    if _option(column, "unique") is not None or len(column.args) > 2:  # a name, a type
        yield "add_column: with a constraint that the release before does not keep"


def _faults_of_index(call: _Call, new: set[str]) -> Iterator[str]:
    if _table(call) in new:
        return
    if call.given("unique"):
        yield "create_index: unique, which the release before does not keep"
    if _table(call) not in SMALL and not call.given("postgresql_concurrently"):
        yield f"create_index: holds {_table(call)} while it is built"


_KNOWN: Final[dict[str, Callable[[_Call], Iterator[str]]]] = {
    "create_table": _faults_of_table,
    "add_column": _faults_of_column,
    "drop_index": _faults_of_dropped,
    "execute": _faults_of_statement,
}


def _table(call: _Call) -> str:
    """Return the table that an operation holds."""
    place = 1 if call.name in {"create_index", "drop_constraint"} else 0
    beside = call.given("postgresql_concurrently") or call.name == "execute"
    return "" if beside else call.words[place]


def _floor(call: _Call) -> str:
    said = _FLOOR.fullmatch(call.words[0]) if call.name == "execute" and call.words else None
    return said[1] if said else ""


def _option(call: ast.Call, name: str) -> str | None:
    given = [one.value for one in call.keywords if one.arg == name]
    return ast.unparse(given[0]) if given else None


def _operations(tree: ast.Module) -> Iterator[_Call]:
    """Yield the calls of ``op`` in the order of the text."""
    found = [
        _Call(node.func.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "op"
    ]
    return iter(sorted(found, key=lambda one: one.node.lineno))


def _constants(tree: ast.Module) -> dict[str, str]:
    """Return what a revision says of itself at the top."""
    return {
        target.id: str(ast.literal_eval(node.value))
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
