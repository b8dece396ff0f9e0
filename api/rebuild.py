"""``oubliette rebuild``: what must be known before a rebuild can be composed, found in the ledger.

The vault's id stands in the ledger's origin, the ledger's own tree in its first leaf: ``init``
writes its ``epoch-changed`` entry before anything else. The signing key is never made anew here: it
is what tells this vault's ledger from another's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from api.database import open_bare_database
from api.directory import Vault
from api.settings import Settings
from api.wiring import assemble, open_ports
from core import ids
from core.clock import SystemClock
from core.db import Database
from core.errors import IntegrityFailure, InvalidRequest
from core.migrate import migrate
from keys.errors import KeyMissing
from keys.signing import NoteSigner
from retention import restore_stop
from retention.errors import RestoreRefused
from retention.rebuild import CatalogueRebuild
from retention.restore import Progress
from vault.errors import ObjectMissing
from vault.ledger import tiles
from vault.ledger.checkpoint import read_checkpoint
from vault.ledger.leaf import Leaf
from vault.ledger.reader import StoreSource, TileReader
from vault.ports import LedgerSource
from vault.stores.registry import open_store
from vault.tables import vaults


def rebuild(
    settings: Settings,
    tell: Progress,
    *,
    names: Mapping[str, str],
    without: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Rebuild the catalogue in an empty database, with no server on the vault.

    Raises:
        RestoreRefused: the database is in use, or ledger, signing key or key material is not there.
        StoreUnavailable, KeyUnavailable, DatabaseUnavailable: run again.
    """
    vault = identify(settings)
    _begin(settings, vault)
    service = assemble(open_ports(settings), settings)
    try:
        service.claim.take()
        return asdict(CatalogueRebuild(service.restore, names, without).run(tell))
    finally:
        service.stop()


def identify(settings: Settings) -> Vault:
    """Return who the vault is, from its ledger's files and its signing key.

    Raises:
        RestoreRefused: ``ledger-missing``, ``signing-key-missing``, or ``ledger-foreign`` (another
            key signed it).
        StoreUnavailable, KeyUnavailable: no answer.
    """
    source = StoreSource(open_store(settings.ledger_uri))
    try:
        note = source.get(tiles.CHECKPOINT_KEY).decode(errors="replace")
    except ObjectMissing as err:
        raise RestoreRefused(why="ledger-missing") from err
    origin = note.partition("\n")[0]
    try:
        signer = NoteSigner.load(settings.signing_key_uri, origin)
        checkpoint = read_checkpoint(note, *signer.vkeys)
        vault_id = origin.rpartition("/")[2]
        ids.to_bits(vault_id, "vlt_")
        return Vault(vault_id, _ledger_tree(source, checkpoint.size), origin)
    except KeyMissing as err:
        raise RestoreRefused(why="signing-key-missing") from err
    except (IntegrityFailure, InvalidRequest) as err:
        raise RestoreRefused(why="ledger-foreign") from err


def _ledger_tree(source: LedgerSource, size: int) -> str:
    """Return the ``ctl_`` id of the ledger's own tree: of its first leaf."""
    try:
        leaf = Leaf.decode(TileReader(source, size).bundle(0)[0])
    except (ObjectMissing, IndexError) as err:
        raise RestoreRefused(why="ledger-missing") from err
    if leaf.type != "epoch-changed":
        raise RestoreRefused(why="ledger-foreign")
    return leaf.controller_id


def _begin(settings: Settings, vault: Vault) -> None:
    """Write the vault's row and the mark that keeps servers away, or find a rebuild begun."""
    database = open_bare_database(settings)
    try:
        migrate(database)
        with database.transaction() as connection:
            known = connection.execute(sa.select(vaults.c.id)).scalar_one_or_none()
            if known is None:
                _insert(database, connection, vault)
            elif known != vault.id or not restore_stop.unfinished(connection):
                raise RestoreRefused(why="database-in-use")
    finally:
        database.close()


def _insert(database: Database, connection: sa.Connection, vault: Vault) -> None:
    connection.execute(
        vaults.insert().values(
            id=vault.id,
            ledger_controller_id=vault.ledger_controller_id,
            ledger_origin=vault.ledger_origin,
            created_at=database.now(connection),
        )
    )
    restore_stop.place(database, SystemClock(), connection, vault.ledger_controller_id)
