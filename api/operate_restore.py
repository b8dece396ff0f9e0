"""What the commands around backups do: heavy to import, so ``api.cli_restore`` asks for it late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from api.backup import find_backup, load_backup, open_target
from api.observability import configure_logging
from api.rebuild import rebuild as rebuild_catalogue
from api.settings import Settings
from api.wiring import assemble, open_ports
from retention.backup import Backup

Told = Callable[[str, int], None]


def rebuild(
    settings: Settings, tell: Told, *, names: Mapping[str, str], without: frozenset[str]
) -> dict[str, Any]:
    """Fill an empty database, with no server on the vault."""
    configure_logging()
    return rebuild_catalogue(settings, tell, names=names, without=without)


def backup(settings: Settings, place: str, tell: Told, *, with_ledger: bool) -> dict[str, Any]:
    """Write a backup; a server may run meanwhile."""
    target = open_target(settings, place)
    ports = open_ports(settings)
    try:
        making = Backup(ports.database, ports.ledger_store, ports.signer, ports.clock)
        return dict(making.run(target, with_ledger=with_ledger, tell=tell))
    finally:
        ports.database.close()


def verify_backup(
    settings: Settings, place: str, tell: Told, *, name: str, key: str
) -> dict[str, Any]:
    """Verify a backup; return its manifest's facts."""
    return find_backup(settings, place, name, tuple(key.split())).check(tell)


def restore(settings: Settings, tell: Told, *, place: str, name: str) -> dict[str, Any]:
    """Run the restore, with no server on the vault; first fill the database from a backup."""
    configure_logging()
    loaded = load_backup(settings, place, name, tell) if place else None
    service = assemble(open_ports(settings), settings)
    try:
        service.claim.take()
        report = service.restore.run(tell, ledger_from_backup=bool(loaded and loaded.with_ledger))
        return asdict(report)
    finally:
        service.stop()
