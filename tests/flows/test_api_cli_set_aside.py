"""``oubliette set-aside``, from a restore that finds strangers to the officer who decides."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api import cli
from tests.composition import Made, build_service, running_server
from tests.fakes.retention_vault import copy_rows, put_rows_back
from tests.fakes.whole_vault import WholeVault, call, whole_vault
from vault.tables import attempts, ledger_entries, recordings

REASON = "Heard it, it is ours"
Run = Callable[..., Any]


def strangers(vault: WholeVault, count: int) -> list[str]:
    """Leave objects that neither a row nor an entry knows; returns their recordings' ids."""
    database = vault.service.ports.database
    while vault.service.sequencer.run_once():
        pass
    old = copy_rows(database)
    made = [vault.deposit(call(pitch)) for pitch in range(3, 3 + count)]
    with database.transaction() as connection:
        connection.execute(ledger_entries.delete().where(ledger_entries.c.recording_id.in_(made)))
        connection.execute(recordings.delete())
        connection.execute(attempts.delete())
    while vault.service.sequencer.run_once():
        pass
    put_rows_back(database, old)
    assert vault.service.restore.run().set_aside_count == count
    return made


@pytest.fixture
def restored(tmp_path: Path) -> Iterator[tuple[Made, list[str]]]:
    """Serve a vault whose restore has set two objects aside."""
    vault = whole_vault(tmp_path, {})
    made = strangers(vault, 2)
    vault.close()
    service = build_service(tmp_path)
    with running_server(service.service):
        yield service, made


@pytest.fixture
def run(restored: tuple[Made, list[str]], monkeypatch: pytest.MonkeyPatch) -> Run:
    served = restored[0]
    monkeypatch.setenv("OUBLIETTE_URL", served.settings.public_url)

    def command(*words: str, role: str = "dpo", code: int = 0) -> Any:
        monkeypatch.setenv("OUBLIETTE_TOKEN", served.token(role, subject="somebody"))
        done = CliRunner().invoke(cli.app, ["set-aside", *words])
        assert done.exit_code == code, (words, done.output, done.exception)
        return done

    return command


def test_an_officer_lists_releases_and_erases(restored: tuple[Made, list[str]], run: Run) -> None:
    made = restored[1]
    waiting = {
        one["recording_id"]: one["id"] for one in json.loads(run("list", "--json").stdout)["items"]
    }
    assert set(waiting) == set(made)
    assert all(one in run("list").stdout for one in waiting.values())
    kept, gone = (waiting[one] for one in made)
    run("release", kept, "--reason", REASON, role="admin", code=4)
    run("release", kept, "--reason", "ours", code=1)
    run("release", "obj_" + "0" * 26, "--reason", REASON, code=5)
    assert json.loads(run("release", kept, "--reason", REASON, "--json").stdout)["state"] == (
        "released"
    )
    assert json.loads(run("erase", gone, "--reason", REASON, "--json").stdout)["state"] == "erased"
    assert "set-aside-conflict" in run("release", gone, "--reason", REASON, code=1).stderr
    assert json.loads(run("list", "--json").stdout)["items"] == []
    database = restored[0].service.ports.database
    with database.read() as connection:
        assert connection.execute(recordings.select()).one().id == made[0]
