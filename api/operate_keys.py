"""What ``oubliette keys`` does: where each controller's epoch key is, and moving it elsewhere.

Nothing here shows key material: a provider wraps and unwraps, it never tells a key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from api.observability import configure_logging
from api.operate import opened
from api.service import Service
from api.settings import Settings
from api.wiring import assemble, open_ports
from core.clock import to_text
from core.errors import InvalidRequest, OublietteError
from keys.errors import KeyUnavailable
from keys.store import KeyStore
from keys.tables import key_trees
from vault.tables import controllers

LEDGER: Final = "(ledger)"
Told = Callable[[str, int], None]


@dataclass(frozen=True)
class _Tree:
    controller_id: str
    slug: str


def list_keys(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each controller and for the ledger's own tree; nothing is changed.

    A provider that does not answer is named in its row and stops no other row.
    """
    configure_logging()
    service = assemble(open_ports(settings), settings)
    try:
        return [_row(service, tree) for tree in _trees(service, "")]
    finally:
        service.keyring.close()
        service.ports.database.close()


def migrate_keys(settings: Settings, to: str, controller: str, tell: Told) -> dict[str, Any]:
    """Move epoch keys into another provider, one controller after another.

    Each move is one epoch change with its entry in the ledger: a key in the new provider, the blob
    under it, the pointer, then every key in the old provider destroyed and confirmed. A run that
    was cut off is made up by the next: what moved already is only finished.

    Args:
        settings: ``KEYS_URI`` names both providers.
        to: the new provider, by its URI in ``KEYS_URI`` or by its name in pointers.
        controller: a slug, "" for every controller and the ledger.
        tell: takes the slug that is done and how many are.

    Raises:
        KeyUnavailable: no provider of that name among the settings.
        InvalidRequest: no controller has the slug.
    """
    failures: list[dict[str, str]] = []
    moved: list[dict[str, Any]] = []
    with opened(settings) as service:
        target = _provider(service, settings, to)
        for done, tree in enumerate(_trees(service, controller), start=1):
            try:
                moved.append(_move(service, tree, target))
            except OublietteError as err:
                failures.append({"controller": tree.slug, "code": err.code, "what": str(err)})
            tell(tree.slug, done)
    return {"to": target, "controllers": moved, "failures": failures}


def _provider(service: Service, settings: Settings, to: str) -> str:
    named = dict(zip(settings.keys_uris, service.ports.providers, strict=True))
    if to in named:
        return named[to].uri
    try:
        return service.ports.providers.at(to).uri
    except KeyUnavailable as err:  # it may hold a secret's address: not repeated
        raise KeyUnavailable(what="provider-not-in-KEYS_URI") from err


def _trees(service: Service, controller: str) -> list[_Tree]:
    """Return the trees that are asked for, the ledger's last."""
    query = sa.select(controllers.c.id, controllers.c.slug).order_by(controllers.c.slug)
    with service.ports.database.read() as connection:
        slugs = {row.id: row.slug for row in connection.execute(query)}
    ledger_id = service.ports.vault.ledger_controller_id
    known = KeyStore(service.ports.database).controllers()
    found = [_Tree(one, slugs.get(one, one)) for one in known if one != ledger_id and one in slugs]
    found = [*sorted(found, key=lambda one: one.slug), _Tree(ledger_id, LEDGER)]
    if controller:
        found = [one for one in found if one.slug == controller]
        if not found:
            raise InvalidRequest(what="controller")
    return found


def _move(service: Service, tree: _Tree, target: str) -> dict[str, Any]:
    store = KeyStore(service.ports.database)
    before = store.read(tree.controller_id)
    outcome = service.shredder.migrate(tree.controller_id, target)
    return {
        "controller": tree.slug,
        "from": before.provider_uri,
        "to": outcome.pointer.provider_uri,
        "epoch": outcome.pointer.epoch,
        "moved": before.provider_uri != target,
        "keys_destroyed": len(outcome.destroyed_key_ids),
        "destroyed_at": to_text(outcome.destroyed_at),
        "providers_emptied": [uri for uri in outcome.provider_uris if uri != target],
        "limits": list(outcome.limits),
    }


def _row(service: Service, tree: _Tree) -> dict[str, Any]:
    database = service.ports.database
    pointer = KeyStore(database).read(tree.controller_id)
    with database.read() as connection:
        query = sa.select(key_trees.c.changed_at, key_trees.c.destroyed_epoch).where(
            key_trees.c.controller_id == tree.controller_id
        )
        changed_at, destroyed_epoch = connection.execute(query).one()
        age_s = int((database.now(connection) - changed_at).total_seconds())
    return {
        "controller": tree.slug,
        "controller_id": tree.controller_id,
        "epoch": pointer.epoch,
        "provider": pointer.provider_uri,
        "changed_at": to_text(changed_at),
        "age_s": max(0, age_s),
        "older_destroyed": destroyed_epoch >= pointer.epoch - 1,
        "living_keys": {one.uri: _count(service, one.uri, tree) for one in service.ports.providers},
    }


def _count(service: Service, uri: str, tree: _Tree) -> int | str:
    try:
        return len(service.ports.providers.at(uri).list_keys(tree.controller_id))
    except OublietteError as err:
        return str(err.facts.get("what", err.code))
