"""``oubliette keys``: where epoch keys are, and moving them between the providers in KEYS_URI."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api import cli
from api.observability import configure_lines

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Return a function that runs ``oubliette WORDS --json`` on a fresh vault."""
    root = logging.getLogger()
    before = list(root.handlers)
    data = tmp_path / "data"
    first = f"local:{data}/keyring/epochs,{data}/keyring/epochs-2"
    monkeypatch.setenv("OUBLIETTE_DATA_DIR", str(data))
    monkeypatch.setenv("OUBLIETTE_KEYS_URI", f"{first} local:{data}/keyring/second")

    def command(*words: str, code: int = 0) -> dict[str, Any]:
        done = CliRunner().invoke(cli.app, [*words, "--json"])
        assert done.exit_code == code, (words, done.output, done.exception)
        found: dict[str, Any] = json.loads(done.stdout) if code == 0 else {}
        return found

    command("init", "--controller", "acme")
    yield command
    # the command wrote its lines to a stream that is closed by now
    root.handlers = before
    configure_lines(io.StringIO())


def test_keys_are_listed_by_controller_with_epoch_age_and_provider(run: Run) -> None:
    rows = run("keys", "list")["items"]
    assert [row["controller"] for row in rows] == ["acme", "(ledger)"]
    for row in rows:
        assert row["provider"] == "local:epochs"
        assert row["epoch"] == 1
        assert 0 <= row["age_s"] < 600
        assert row["living_keys"] == {"local:epochs": 1, "local:second": 0}
        assert row["older_destroyed"]


def test_every_controller_moves_and_the_ledger_with_an_entry_each(run: Run, tmp_path: Path) -> None:
    report = run("keys", "migrate", "--to", "local:second")
    assert [(one["from"], one["to"], one["moved"]) for one in report["controllers"]] == [
        ("local:epochs", "local:second", True)
    ] * 2
    assert report["failures"] == []
    for row in run("keys", "list")["items"]:
        assert row["living_keys"] == {"local:epochs": 0, "local:second": 1}
    for folder in ("epochs", "epochs-2"):
        left = [path.name for path in (tmp_path / "data" / "keyring" / folder).iterdir()]
        assert left == [".oubliette-keyring"]
    assert run("verify")["entries"] >= 4
    again = run("keys", "migrate", "--to", "local:second")
    assert [one["moved"] for one in again["controllers"]] == [False, False]


def test_one_controller_moves_by_its_slug(run: Run) -> None:
    run("keys", "migrate", "--to", "local:second", "--controller", "acme")
    assert [row["provider"] for row in run("keys", "list")["items"]] == [
        "local:second",
        "local:epochs",
    ]


@pytest.mark.parametrize(
    "words", [("--to", "local:nowhere"), ("--to", "local:second", "--controller", "nobody")]
)
def test_what_does_not_exist_is_refused_and_nothing_moves(run: Run, words: list[str]) -> None:
    run("keys", "migrate", *words, code=3 if "nowhere" in words[1] else 1)
    assert {row["provider"] for row in run("keys", "list")["items"]} == {"local:epochs"}
