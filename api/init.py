"""``oubliette init``: make a vault, its ledger and its first controller, each step repeatable.

Order: schema; the vault's row with a fresh id; signing and pseudonym keys; the ledger's own key
tree, unjournaled because no ledger can take note of its own beginning; the note of it; the
controller's row and tree. A crash leaves a vault that the same command completes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from api.database import open_vault_database
from api.directory import Vault, find_vault
from api.errors import AlreadyInitialised, NotInitialised
from api.service import Service
from api.settings import Settings
from api.wiring import assemble, open_ports
from core import ids
from core.clock import SystemClock
from core.db import Database
from keys.store import KeyStore
from vault.campaign import create_controller
from vault.ledger.journal import LedgerJournal
from vault.tables import controllers, vaults

_ORIGIN: Final = "{host}/oubliette/{vault_id}"


@dataclass(frozen=True)
class Initialised:
    """What ``init`` made, for people to write down.

    Attributes:
        vkey: the verifier key of receipts, certificates and checkpoints.
    """

    vault_id: str
    controller_id: str
    controller_slug: str
    origin: str
    vkey: str

    def shown(self) -> Mapping[str, Any]:
        """Return it as members of an answer."""
        return dict(vars(self))


def initialise(settings: Settings, *, slug: str, name: str, again: bool = False) -> Initialised:
    """Make the vault and its first controller; completes what a crash left half made.

    Args:
        settings: of the vault.
        slug: of the controller, ``[a-z0-9-]``, at most 40.
        name: of the controller, for people.
        again: return what is there when it is whole already.

    Raises:
        AlreadyInitialised: this controller is there, whole; nothing was changed.
        InvalidRequest: slug or name cannot be.
        SchemaMismatch: production mode wants ``oubliette migrate`` first.
    """
    ids.check_slug(slug)
    database = open_vault_database(settings)
    _ensure_vault(database, settings)
    database.close()
    service = assemble(open_ports(settings), settings)
    try:
        return _complete(service, slug=slug, name=name, again=again)
    finally:
        service.keyring.close()
        service.ports.database.close()


def _complete(service: Service, *, slug: str, name: str, again: bool) -> Initialised:
    ports = service.ports
    ledger_id = ports.vault.ledger_controller_id
    pointer = service.shredder.create_tree(ledger_id, journaled=False)
    LedgerJournal(service.ledger).record_missing(pointer)
    controller_id, existed = _ensure_controller(service, slug=slug, name=name)
    complete = existed and _has_tree(service, controller_id)
    service.shredder.create_tree(controller_id)
    service.sequencer.check()
    while service.sequencer.run_once():
        pass
    if complete and not again:
        raise AlreadyInitialised(controller_id=controller_id, vkey=ports.signer.vkey)
    return Initialised(ports.vault.id, controller_id, slug, ports.signer.name, ports.signer.vkey)


def _ensure_vault(database: Database, settings: Settings) -> Vault:
    try:
        return find_vault(database)
    except NotInitialised:
        clock = SystemClock()
        vault_id = ids.from_bits("vlt_", clock.random_bytes(ids.ID_BYTES))
        host = urlsplit(settings.public_url).netloc
        row = {
            "id": vault_id,
            "ledger_controller_id": ids.from_bits("ctl_", clock.random_bytes(ids.ID_BYTES)),
            "ledger_origin": _ORIGIN.format(host=host, vault_id=vault_id),
        }
        with database.transaction() as connection:
            if connection.execute(sa.select(vaults.c.id)).first() is None:
                at = database.now(connection)
                connection.execute(vaults.insert().values(**row, created_at=at))
        return find_vault(database)


def _ensure_controller(service: Service, *, slug: str, name: str) -> tuple[str, bool]:
    """Return the controller's id, and whether its row was there before."""
    database = service.ports.database
    with database.transaction() as connection:
        query = sa.select(controllers.c.id).where(controllers.c.slug == slug)
        found = connection.execute(query).scalar_one_or_none()
        if found is not None:
            return str(found), True
        made = ids.from_bits("ctl_", service.ports.clock.random_bytes(ids.ID_BYTES))
        at = database.now(connection)
        create_controller(connection, controller_id=made, slug=slug, name=name, at=at)
    return made, False


def _has_tree(service: Service, controller_id: str) -> bool:
    return controller_id in KeyStore(service.ports.database).controllers()
