"""``oubliette backup`` and ``restore --from``: where backups lie, and where none may.

A folder, or ``s3://bucket/prefix?endpoint=...``; several backups lie side by side in one place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from api.database import open_bare_database
from api.settings import Settings
from core.clock import SystemClock
from core.errors import InvalidRequest
from core.migrate import migrate
from keys.errors import KeyMissing
from keys.signing import NoteSigner
from retention.backup import MANIFEST, Progress
from retention.backup_check import FoundBackup, newest
from retention.errors import BackupInvalid, BackupRefused, RestoreRefused
from vault.errors import ObjectMissing
from vault.ledger.reader import StoreSource
from vault.ports import ObjectStore
from vault.stores.registry import open_store


@dataclass(frozen=True)
class Loaded:
    """What was put back: the manifest's facts, and whether the ledger came from there too."""

    facts: dict[str, Any]
    with_ledger: bool


def open_target(settings: Settings, place: str) -> ObjectStore:
    """Open where a backup may be written.

    Raises:
        BackupRefused: keys, key blobs, objects or the ledger lie there, above it or below it.
        InvalidRequest, StoreUnavailable: it cannot be opened.
    """
    uri = place_uri(place)
    taken = [(what, one) for what, one in _taken(settings) if _overlap(uri, one)]
    if taken:
        raise BackupRefused(what=taken[0][0])
    return open_store(uri)


def find_backup(settings: Settings, place: str, name: str, vkeys: tuple[str, ...]) -> FoundBackup:
    """Return the backup of a name, or the newest one, signed by this vault's key.

    Args:
        settings: where the signing key is.
        place: folder or URI.
        name: of one backup, "" for the newest.
        vkeys: instead of the signing key's own; () for that.

    Raises:
        BackupInvalid: there is none. KeyUnavailable, StoreUnavailable.
    """
    store = open_store(place_uri(place))
    wanted = name or newest(store)
    if wanted is None:
        raise BackupInvalid(what="manifest-missing")
    return FoundBackup(store, wanted, vkeys or _own_vkeys(settings, store, wanted))


def load_backup(settings: Settings, place: str, name: str, tell: Progress) -> Loaded:
    """Check a backup and fill an empty database with it, and an empty ledger folder.

    Raises:
        BackupInvalid: nothing was changed. RestoreRefused: the database holds a vault.
        StoreUnavailable, DatabaseUnavailable: run again.
    """
    found = find_backup(settings, place, name, ())
    facts = found.check(tell)
    database = open_bare_database(settings)
    try:
        migrate(database)
        found.load(database, SystemClock(), facts, tell)
    finally:
        database.close()
    return Loaded(facts, found.load_ledger(open_store(settings.ledger_uri), facts))


def place_uri(place: str) -> str:
    """Return the URI of a folder or of a URI."""
    return place if "://" in place else Path(place).absolute().as_uri()


def _own_vkeys(settings: Settings, store: ObjectStore, name: str) -> tuple[str, ...]:
    """Return this vault's verifier keys under the name that the manifest claims."""
    try:
        note = StoreSource(store).get(f"{name}/{MANIFEST}").decode(errors="replace")
        origin = str(json.loads(note.split("\n", 2)[1])["origin"])
        return NoteSigner.load(settings.signing_key_uri, origin).vkeys
    except ObjectMissing as err:
        raise BackupInvalid(what="manifest-missing") from err
    except (ValueError, LookupError, TypeError, InvalidRequest) as err:
        raise BackupInvalid(what="manifest") from err
    except KeyMissing as err:
        raise RestoreRefused(why="signing-key-missing") from err


def _taken(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield the places that a backup must lie apart from."""
    for uri in (*settings.keys_uris, settings.signing_key_uri):
        scheme, _, rest = uri.partition(":")
        if scheme == "local":
            for part in rest.split(","):
                yield "keys", Path(part).as_uri()
                yield "keys", Path(f"{part}-2").as_uri()
    yield "keys", (settings.data_dir / "keyring").as_uri()
    for place in settings.blob_places:
        if not place.startswith("database:"):
            yield "key-blobs", place
    yield "objects", settings.store_uri
    yield "ledger", settings.ledger_uri


def _overlap(one: str, other: str) -> bool:
    """Tell whether one place is the other, or lies within it."""
    first, second = _parts(one), _parts(other)
    shorter = min(len(first), len(second))
    return first[:shorter] == second[:shorter]


def _parts(uri: str) -> tuple[str, ...]:
    split = urlsplit(uri)
    path = unquote(split.path)
    if split.scheme == "file":
        path = str(Path(path).resolve())
    return (split.scheme, split.netloc, *(part for part in path.split("/") if part))
