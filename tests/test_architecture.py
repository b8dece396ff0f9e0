"""The house rules hold everywhere, and each rule is shown to bite on a planted text."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from keys import labels
from tests import house_rules as rules

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("core", "keys", "vault", "retention", "api")
FLOWS: Final = frozenset(
    {"Deposit", "Listens", "Erase", "Shredder", "Recovery", "Campaigns", "Sweep"}
)
# bases that are shapes, not code to reuse
SHAPES: Final = re.compile(r"Answer$")
PURE: Final = next(
    contract["source_modules"]
    for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    if contract["id"] == "pure"
)
Rule = Callable[[str, str], list[str]]


def read(pattern: str, *folders: str) -> Iterator[tuple[str, str]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob(pattern)):
            if "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_text()


def product() -> Iterator[tuple[str, str]]:
    return (one for one in read("*.py", *PACKAGES) if "migrations/versions" not in one[0])


def own_classes() -> frozenset[str]:
    found = re.compile(r"^class (\w+)", re.MULTILINE)
    texts = [text for name, text in product() if not name.endswith(("errors.py", "ports.py"))]
    return frozenset(name for text in texts for name in found.findall(text))


def tracked() -> Iterator[tuple[str, str]]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:4096]:
            yield name, path.read_text(errors="replace")


unfrozen_flows = partial(rules.unfrozen_flows, flows=FLOWS)
inherited = partial(rules.inherited_code, ours=own_classes(), allowed=SHAPES)

PRODUCT_RULES: Final[dict[str, tuple[Rule, str, str]]] = {
    "protocols": (
        rules.protocols_outside_ports,
        "vault/x.py",
        "class Door(typing.Protocol):\n    pass\n",
    ),
    "module-length": (rules.long_modules, "vault/x.py", "x = 1\n" * 401),
    "body-length": (
        rules.long_bodies,
        "vault/x.py",
        "def f():\n    '''Say.'''\n" + "    g()\n" * 26,
    ),
    "parameters": (rules.many_parameters, "vault/x.py", "def f(self, a, b, c, d, e, f): ...\n"),
    "names": (rules.banned_names, "vault/text_utils.py", ""),
    "forms": (rules.spooled_forms, "api/x.py", "async def f(request):\n    await request.form()\n"),
    "upload-types": (rules.spooled_forms, "api/x.py", "from fastapi import UploadFile\n"),
    "frozen": (rules.unfrozen_dataclasses, "vault/x.py", "@dataclass\nclass A:\n    a: int\n"),
    "frozen-flow": (
        unfrozen_flows,
        "vault/x.py",
        "@dataclass\nclass Erase:\n    a: int\n    def f(self):\n        self.a = 1\n",
    ),
    "inheritance": (inherited, "vault/x.py", "class Better(FolderStore):\n    pass\n"),
    "labels": (rules.stray_labels, "vault/x.py", "USE = b'oubliette/planted/v1'\n"),
}


@pytest.mark.parametrize("rule", PRODUCT_RULES)
def test_the_product_keeps_the_rule(rule: str) -> None:
    check = PRODUCT_RULES[rule][0]
    assert [finding for name, text in product() for finding in check(name, text)] == []


@pytest.mark.parametrize("rule", PRODUCT_RULES)
def test_the_rule_finds_a_planted_breach(rule: str) -> None:
    check, name, planted = PRODUCT_RULES[rule]
    assert check(name, planted) != []


def test_a_body_of_forty_lines_wants_a_reason() -> None:
    body = "    g()\n" * 40
    assert rules.long_bodies("x.py", "def f():\n" + body) != []
    assert rules.long_bodies("x.py", "def f():\n    # long: one table, row by row\n" + body) == []
    assert rules.long_bodies("x.py", "def f():\n    # long: too long\n    g()\n" + body) != []


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_calls_no_clock_and_no_file(module: str) -> None:
    path = ROOT / (module.replace(".", "/") + ".py")
    assert rules.impure_calls(module, path.read_text()) == []


@pytest.mark.parametrize("planted", ["datetime.now(tz=UTC)", "open('x')", "date.today()"])
def test_a_planted_clock_or_file_is_found(planted: str) -> None:
    assert rules.impure_calls("pure.py", planted) != []


def test_migrations_use_op_alone() -> None:
    texts = list(read("*.py", "core/migrations/versions"))
    assert texts
    assert [f for name, text in texts for f in rules.foreign_migration_imports(name, text)] == []
    assert rules.foreign_migration_imports("x.py", "from vault.tables import recordings") != []


def test_labels_are_unique_and_well_formed() -> None:
    found = [value for name, value in vars(labels).items() if name.isupper()]
    texts = [value for value in found if isinstance(value, bytes)]
    assert len(texts) > 3
    assert [text for text, count in Counter(texts).items() if count > 1] == []
    assert [text for text in texts if not rules.LABEL.fullmatch(text)] == []


def test_every_test_asserts_something() -> None:
    modules = [text for name, text in read("*.py", "tests") if "/test_" not in name]
    check = partial(
        rules.silent_tests, checkers=frozenset().union(*map(rules.speaking_functions, modules))
    )
    texts = list(read("test_*.py", "tests"))
    assert [finding for name, text in texts for finding in check(name, text)] == []
    assert check("x.py", "def test_nothing():\n    print(1)\n") != []


def test_test_files_have_one_name_each() -> None:
    counts = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in counts.items() if count > 1] == []


def test_test_modules_are_short_too() -> None:
    texts = list(read("*.py", "tests", "bench"))
    assert [f for name, text in texts for f in rules.long_modules(name, text)] == []


def test_nothing_names_a_folder_of_one_machine() -> None:
    assert [f for name, text in tracked() for f in rules.machine_paths(name, text)] == []
    for planted in ("/ro" + "ot/.cache", "see ../" + "shared/x", "/wo" + "rk/main"):
        assert rules.machine_paths("x", planted) != []


def test_locks_name_no_index_and_hash_everything() -> None:
    locks = list(read("*.txt", "requirements"))
    assert len(locks) == 7
    assert [fault for name, text in locks for fault in rules.lock_faults(name, text)] == []
    hashed = "a==1 \\\n    --hash=sha256:00\n"
    assert rules.lock_faults("x", hashed) == []
    for planted in ("--index-url x\n" + hashed, "a @ https://x\n", hashed + "b==2\n"):
        assert rules.lock_faults("x", planted) != []


def test_every_locked_runtime_package_is_tested_in_the_same_version() -> None:
    versions = [
        dict(
            re.findall(
                r"^([a-z0-9.-]+)==(\S+)", (ROOT / "requirements" / name).read_text(), re.MULTILINE
            )
        )
        for name in ("runtime.txt", "dev.txt")
    ]
    assert versions[0].items() <= versions[1].items()


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_keep_their_contracts() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_planted_imports_break_their_contracts(tmp_path: Path) -> None:
    compiled = shutil.ignore_patterns("__pycache__")  # other processes write there meanwhile
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=compiled)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    planted = {
        "keys/model.py": "import vault.errors",
        "core/ids.py": "import starlette",
        "retention/errors.py": "import boto3",
        "vault/errors.py": "import cryptography.x509",
        "vault/tables.py": "import apscheduler",
        "api/problems.py": "import jose",
        "keys/tables.py": "import pkcs11",
        "retention/tables.py": "import alembic",
        "keys/tree.py": "import secrets",
        "vault/ledger/tree.py": "import sqlalchemy",
    }
    for name, line in planted.items():
        with (tmp_path / name).open("a") as file:
            file.write(f"\n{line}\n")
    output = lint_imports(tmp_path).stdout
    broken = re.findall(r"^(.+) BROKEN", output, re.MULTILINE)
    assert len(broken) == 9, output
