"""The house rules of CONTRIBUTING.md as functions from source text to findings.

Each returns one line a finding, "name: what is wrong"; none reads a file, so that
``test_architecture.py`` can show with a planted text that the rule bites.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

BODY_LINES: Final = 25
LONG_BODY_LINES: Final = 40
MODULE_LINES: Final = 400
PARAMETERS: Final = 5
LONG_REASON: Final = re.compile(r"#\s*long:\s*\S+", re.IGNORECASE)
BANNED_NAMES: Final = frozenset({"utils", "util", "helpers", "helper", "common", "misc", "base"})
CLOCK_CALLS: Final = frozenset({"now", "utcnow", "today", "time", "monotonic", "perf_counter"})
IO_CALLS: Final = frozenset({"open", "print", "input", "exec", "eval", "breakpoint"})
MIGRATION_IMPORTS: Final = frozenset({"__future__", "alembic", "sqlalchemy"})
SPOOLING: Final = frozenset({"UploadFile", "Form", "File"})
MACHINE_PATHS: Final = re.compile(r"(?<![\w.])/(?:work|root|home)/[\w.]|/tmp/[w]\b|\.\./shared\b")
LABEL: Final = re.compile(rb"oubliette/[a-z0-9-]+/v[0-9]+")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def protocols_outside_ports(name: str, source: str) -> list[str]:
    """A ``Protocol`` stands in ``ports.py`` and nowhere else."""
    if name.endswith("ports.py"):
        return []
    return [
        f"{name}: Protocol {one.name} outside ports.py"
        for one in _classes(source)
        if any(_last_name(base) == "Protocol" for base in one.bases)
    ]


def long_modules(name: str, source: str) -> list[str]:
    """A module has at most 400 lines."""
    count = len(source.splitlines())
    return [f"{name}: {count} lines"] if count > MODULE_LINES else []


def long_bodies(name: str, source: str) -> list[str]:
    """A body has at most 25 lines of code, or 40 with a comment ``# long: why``."""
    comments = _comments(source)
    code = _code_lines(source)
    found = []
    for function in _functions(source):
        last = function.end_lineno or function.lineno
        count = len(code & set(range(_first_line(function), last + 1)))
        stated = any(
            LONG_REASON.search(text) for at, text in comments if function.lineno <= at <= last
        )
        if count > (LONG_BODY_LINES if stated else BODY_LINES):
            found.append(f"{name}: {function.name} has {count} lines")
    return found


def many_parameters(name: str, source: str) -> list[str]:
    """A function takes at most 5 positional parameters; the rest are keyword-only."""
    found = []
    for function in _functions(source):
        arguments = [one.arg for one in function.args.posonlyargs + function.args.args]
        count = len([one for one in arguments if one not in {"self", "cls"}])
        if count > PARAMETERS:
            found.append(f"{name}: {function.name} takes {count} positional parameters")
    return found


def banned_names(name: str, source: str) -> list[str]:
    """No module is called after nothing in particular."""
    words = set(re.split(r"[/._]", name.removesuffix(".py")))
    return [f"{name}: called {word}" for word in sorted(words & BANNED_NAMES)]


def spooled_forms(name: str, source: str) -> list[str]:
    """No ``request.form()`` and no upload types: they spool clear audio to a temporary folder."""
    found = [
        f"{name}: line {node.lineno} calls .form()"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "form"
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
            ("fastapi", "starlette")
        ):
            found += [f"{name}: imports {a.name}" for a in node.names if a.name in SPOOLING]
    return found


def impure_calls(name: str, source: str) -> list[str]:
    """A pure module reads no clock and does no I/O, whatever it imports."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        called = _last_name(node.func)
        clock = isinstance(node.func, ast.Attribute) and called in CLOCK_CALLS
        if clock or (isinstance(node.func, ast.Name) and called in IO_CALLS):
            found.append(f"{name}: line {node.lineno} calls {called}()")
    return found


def inherited_code(
    name: str, source: str, *, ours: frozenset[str], allowed: re.Pattern[str]
) -> list[str]:
    """No class inherits from another one of ours: code is shared by calling it."""
    return [
        f"{name}: {one.name} inherits from {_last_name(base)}"
        for one in _classes(source)
        for base in one.bases
        if isinstance(base, ast.Name) and base.id in ours and not allowed.search(base.id)
    ]


def unfrozen_dataclasses(name: str, source: str) -> list[str]:
    """A dataclass is frozen unless something assigns to its attributes: state by nature."""
    assigned = _assigned_attributes(source)
    found = []
    for one in _classes(source):
        fields = {
            part.target.id
            for part in one.body
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)
        }
        if _is_unfrozen(one) and not (fields & assigned or _assigns_to_self(one)):
            found.append(f"{name}: dataclass {one.name} is not frozen")
    return found


def unfrozen_flows(name: str, source: str, *, flows: frozenset[str]) -> list[str]:
    """A flow is a frozen dataclass, whatever it does."""
    return [
        f"{name}: flow {one.name} is not a frozen dataclass"
        for one in _classes(source)
        if one.name in flows and (_is_unfrozen(one) or not _is_dataclass(one))
    ]


def foreign_migration_imports(name: str, source: str) -> list[str]:
    """A migration imports alembic's ``op``, SQLAlchemy's types and nothing of ours."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        found += [one for one in names if one.split(".")[0] not in MIGRATION_IMPORTS]
    return [f"{name}: imports {one}" for one in found]


def stray_labels(name: str, source: str) -> list[str]:
    """A key derivation label is written once, in ``keys/labels.py``."""
    if name == "keys/labels.py":
        return []
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes):
            found += [f"{name}: label {one!r}" for one in LABEL.findall(node.value)]
    return found


def speaking_functions(source: str) -> frozenset[str]:
    """Return the names of the functions and methods that assert something by themselves."""
    return frozenset(one.name for one in _functions(source) if _speaks(one, frozenset()))


def silent_tests(name: str, source: str, *, checkers: frozenset[str]) -> list[str]:
    """A test asserts something: by itself, or through a function that does."""
    speaking = speaking_functions(source) | checkers
    return [
        f"{name}: {one.name} asserts nothing"
        for one in _functions(source)
        if one.name.startswith("test_") and not _speaks(one, speaking)
    ]


def machine_paths(name: str, source: str) -> list[str]:
    """Nothing names a folder of one machine."""
    return [f"{name}: {found!r}" for found in MACHINE_PATHS.findall(source)]


def lock_faults(name: str, source: str) -> list[str]:
    """A lock names no index, and every requirement has a hash."""
    words = ("://", "find-links", "index")
    found = [f"{name}: says {word}" for word in words if word in source]
    blocks = re.split(r"\n(?=[a-zA-Z0-9])", source.strip())
    bare = [block.splitlines()[0] for block in blocks if "--hash=sha256:" not in block]
    return found + [f"{name}: no hash for {line}" for line in bare]


def _speaks(function: Function, speaking: frozenset[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = _last_name(node.func)
            if called in {"raises", "fail", "warns"} or called in speaking:
                return True
            if re.match(r"(assert|check|expect|verify|must)_|(assert|check|verify)$", called):
                return True
    return False


def _classes(source: str) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))


def _functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def _dataclass_decorators(one: ast.ClassDef) -> Iterator[ast.expr]:
    for decorator in one.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if _last_name(call) == "dataclass":
            yield decorator


def _is_dataclass(one: ast.ClassDef) -> bool:
    return any(True for _ in _dataclass_decorators(one))


def _is_unfrozen(one: ast.ClassDef) -> bool:
    for decorator in _dataclass_decorators(one):
        options = decorator.keywords if isinstance(decorator, ast.Call) else []
        if not any(option.arg == "frozen" and _is_true(option.value) for option in options):
            return True
    return False


def _assigned_attributes(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found


def _assigns_to_self(one: ast.ClassDef) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        for node in ast.walk(one)
    )


def _first_line(function: Function) -> int:
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return (first.end_lineno or first.lineno) + 1
    return first.lineno


def _code_lines(source: str) -> set[int]:
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in skipped:
            lines.update(range(token.start[0], token.end[0] + 1))
    return lines


def _comments(source: str) -> list[tuple[int, str]]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Subscript):
        return _last_name(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _is_true(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
