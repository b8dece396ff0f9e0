"""``init`` stopped between any two of its steps, and the doctor where things are wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

import api.init
from api import operate
from api.doctor import examine
from api.doctor_machine import key_folders
from api.errors import AlreadyInitialised
from api.finding import Finding
from api.init import initialise
from api.settings import Settings
from core.errors import SchemaMismatch
from tests.composition import build_service, make_service, make_settings
from tests.conftest import DATABASES, _administer, _named
from vault.ledger.reader import open_source
from vault.ledger.verify import verify


class StoppedError(Exception):
    """Stands for a crash."""


STEPS = ["open_ports", "_ensure_controller"]


@pytest.mark.parametrize("step", [*STEPS, "create-ledger", "record", "create-controller", "order"])
def test_a_crash_anywhere_leaves_a_vault_that_init_completes(
    tmp_path: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(step, patch)
        with pytest.raises(StoppedError):
            initialise(settings, slug="acme", name="Acme")
    made = initialise(settings, slug="acme", name="Acme", again=step == "order")
    assert made.controller_slug == "acme"
    with pytest.raises(AlreadyInitialised):
        initialise(settings, slug="acme", name="Acme")
    with make_service(tmp_path) as running:
        running.service.readiness.check()
        created = running.service.campaigns.create(running.actor("admin"), slug="c", name="C")
        assert created.controller_id == made.controller_id
    report = verify(open_source(settings.ledger_uri), made.vkey)
    assert report.checkpoint.size >= 2


@pytest.fixture(params=DATABASES)
def nothing_yet(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Settings]:
    """Return settings of a machine where no command has run: no folder, an empty database."""
    if request.param == "sqlite":
        yield make_settings(tmp_path)
        return
    server, name = request.getfixturevalue("postgresql_server"), f"first_{uuid.uuid4().hex}"
    _administer(server, f"CREATE DATABASE {name}")
    yield make_settings(tmp_path, DATABASE_URI=_named(server, name))
    _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def test_migrate_may_come_before_init(nothing_yet: Settings) -> None:
    made = operate.migrate(nothing_yet)
    assert (made["before"], made["now"]) == ("empty", "current")
    assert operate.migrate(nothing_yet)["before"] == "current"
    path = Path(nothing_yet.database_uri.removeprefix("sqlite:///"))
    if path.is_absolute():
        assert [one.stat().st_mode & 0o077 for one in (path, path.parent)] == [0, 0]
    assert operate.init(nothing_yet, slug="acme", name="Acme")["controller_slug"] == "acme"


def test_production_says_which_command_comes_first(nothing_yet: Settings) -> None:
    production = replace(nothing_yet, mode="production")
    with pytest.raises(SchemaMismatch, match=r"run=oubliette migrate.*state=empty"):
        initialise(production, slug="acme", name="Acme")
    operate.migrate(production)
    assert initialise(production, slug="acme", name="Acme").controller_slug == "acme"


def stop_at(step: str, patch: pytest.MonkeyPatch) -> None:
    """Crash before a function of the module, or before the n-th call of a collaborator."""

    def crash(*_: Any, **__: Any) -> None:
        raise StoppedError

    if step in STEPS:
        patch.setattr(api.init, step, crash)
        return
    from keys.shred import Shredder
    from vault.ledger.journal import LedgerJournal
    from vault.ledger.sequence import Sequencer

    if step == "record":
        patch.setattr(LedgerJournal, "record_missing", crash)
    elif step == "order":
        patch.setattr(Sequencer, "run_once", crash)
    else:
        real, calls = Shredder.create_tree, iter((step == "create-ledger", True))

        def create(self: Shredder, controller_id: str, *, journaled: bool = True) -> Any:
            if next(calls):
                raise StoppedError
            return real(self, controller_id, journaled=journaled)

        patch.setattr(Shredder, "create_tree", create)


@pytest.fixture
def vault(tmp_path: Path) -> Settings:
    made = build_service(tmp_path)
    made.service.ports.database.close()
    return made.settings


def found(settings: Settings, verdict: str) -> dict[str, Finding]:
    return {one.check: one for one in examine(settings) if one.verdict == verdict}


def test_a_whole_vault_has_nothing_to_be_done(vault: Settings) -> None:
    assert found(vault, "fail") == {}
    fine = found(vault, "ok")
    assert {
        "restore",
        "clock",
        "store",
        "ledger",
        "blob-places",
        "epoch-key",
        "key-indexes",
    } <= set(fine)
    assert fine["overdue"].text.startswith("0 recordings")
    assert "anchor: none" in found(vault, "warn")["anchor"].text


def test_no_file_of_a_vault_is_for_others(vault: Settings) -> None:
    files = [path for path in vault.data_dir.rglob("*") if path.is_file()]
    assert any(path.name == "oubliette.db" for path in files)
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_a_lost_blob_place_is_seen(vault: Settings) -> None:
    place = Path(unquote(urlsplit(vault.blob_places[0]).path))
    for blob in place.rglob("*"):
        if blob.is_file():
            blob.unlink()
    finding = found(vault, "fail")["blob-places"]
    assert "lacks the newest key blob" in finding.text
    assert place.name in finding.text


def test_a_lost_epoch_key_is_seen(vault: Settings) -> None:
    for folder in key_folders(vault)[:2]:
        for key in folder.iterdir():
            if key.is_file() and not key.name.startswith("."):
                key.unlink()
    assert set(found(vault, "fail")) & {"epoch-key", "restore", "vault"}


def test_keys_that_others_may_read_are_seen(vault: Settings) -> None:
    key_folders(vault)[0].chmod(0o755)
    assert "chmod 0700" in found(vault, "fail")["key-files"].text


def test_no_room_is_seen(tmp_path: Path) -> None:
    build_service(tmp_path).service.ports.database.close()
    huge = make_settings(tmp_path, RECORDING_MAX_BYTES="1 TiB")
    assert "MiB needed" in found(huge, "fail")["room"].text


def test_a_vault_that_does_not_open_is_a_finding(tmp_path: Path) -> None:
    assert "not-initialised" in found(make_settings(tmp_path), "fail")["open"].text
