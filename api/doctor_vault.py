"""What the doctor sees of the vault itself: database, ledger, key material, what is overdue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from api.directory import controller_ids
from api.finding import Finding
from api.service import Service
from keys.blobs import Places
from keys.index import living_invariant, next_indexes
from keys.model import PREFIX_LIMIT, Pointer
from keys.store import KeyStore
from vault.tables import attempts, campaigns, recordings

CLOCK_SKEW_MAX_S: Final = 5.0
LAG_MAX_MS: Final = 10_000
ANCHOR_GRACE_S: Final = 120


def vault_findings(service: Service) -> Iterator[Finding]:
    """Yield what is found in an opened vault; nothing is changed.

    Raises:
        OublietteError: a part does not answer.
    """
    service.restore.check_start()
    yield Finding("ok", "restore", "the database is not behind keys or ledger")
    yield _clock(service)
    service.ports.store.check()
    yield Finding("ok", "store", "the object store answers and takes objects")
    yield _ledger(service)
    if service.anchoring.store is not None:
        yield _anchor(service)
    store = KeyStore(service.ports.database)
    for controller_id in store.controllers():
        yield from _key_material(service, store.read(controller_id))
    for controller_id in controller_ids(service.ports.database):
        yield _invariant(service, controller_id)
    yield _overdue(service)


def _clock(service: Service) -> Finding:
    database = service.ports.database
    with database.read() as connection:
        skew_s = (database.now(connection) - service.ports.clock.now()).total_seconds()
    if abs(skew_s) > CLOCK_SKEW_MAX_S:
        text = f"this machine and its database are {abs(skew_s):.0f} s apart"
        return Finding("warn", "clock", text)
    return Finding("ok", "clock", "this machine and its database agree")


def _ledger(service: Service) -> Finding:
    lag_ms = service.ledger.queue_lag_ms()
    if lag_ms > LAG_MAX_MS:
        text = f"the oldest entry has waited {lag_ms // 1000} s for its index; is a server running?"
        return Finding("warn", "ledger", text)
    return Finding("ok", "ledger", "every entry is ordered, or will be in a moment")


def _anchor(service: Service) -> Finding:
    anchoring = service.anchoring
    anchoring.check()
    if service.ledger.alarm.sounding:
        what = service.ledger.alarm.what
        text = f"the ledger is not the one that was anchored ({what}): see docs/ledger.md"
        return Finding("fail", "anchor", text)
    behind_s = anchoring.behind_s()
    if behind_s > 2 * service.settings.anchor_every_s + ANCHOR_GRACE_S:
        text = f"{anchoring.uri} has not taken a checkpoint for {behind_s / 60:.0f} minutes"
        return Finding("warn", "anchor", text)
    known = anchoring.anchored()
    size = 0 if known is None else known.checkpoint.size
    return Finding("ok", "anchor", f"anchor: {anchoring.uri}; it covers {size} entries")


def _key_material(service: Service, pointer: Pointer) -> Iterator[Finding]:
    who = pointer.controller_id
    yield from place_findings(service.ports.places, pointer)
    listed = service.ports.providers.at(pointer.provider_uri).list_keys(who)
    if not any(key.key_id == pointer.key_id for key in listed):
        yield Finding("fail", "epoch-key", f"{pointer.provider_uri} lacks the key of {who}")
    elif len(listed) > 1:
        text = f"{len(listed) - 1} older or unfinished keys of {who}; recovery will destroy them"
        yield Finding("warn", "epoch-key", text)
    else:
        yield Finding("ok", "epoch-key", f"{pointer.provider_uri} holds one key of {who}")


def place_findings(places: Places, pointer: Pointer) -> Iterator[Finding]:
    """Yield what each place has of a controller's current blob, and how old its newest copy is."""
    epochs = places.newest_epochs(pointer.controller_id)
    states = places.states(pointer.controller_id, pointer.blob_sha256)
    for place, newest in zip(states, epochs, strict=True):
        where = f"{place.uri}{' (off site)' if place.offsite else ''} {_SAID[place.state]}"
        text = f"{where} the newest key blob of {pointer.controller_id}, epoch {pointer.epoch}"
        if place.state == "held":
            yield Finding("ok", "blob-places", text)
        else:
            age = "none of it" if newest is None else f"epoch {newest}"
            yield Finding("fail", "blob-places", f"{text}; its newest copy is {age}")


_SAID: Final = {
    "held": "holds",
    "lacking": "lacks",
    "damaged": "holds a damaged copy of",
    "silent": "does not answer for",
}


def _invariant(service: Service, controller_id: str) -> Finding:
    """Check that every index below a counter is living, an open attempt, or punctured."""
    service.keyring.warm(controller_id)
    strays = lost = 0
    with service.ports.database.read() as connection:
        counters = next_indexes(connection, controller_id)
        shredded = _shredded_prefixes(connection, controller_id)
        for prefix, next_index in counters.items():
            if prefix in shredded or prefix >= PREFIX_LIMIT:
                continue
            unaccounted = living_invariant(
                lambda node: service.keyring.holds_any(controller_id, node),
                prefix,
                next_index=next_index,
                owned=_owned(connection, controller_id, prefix),
            )
            strays += len(unaccounted.strays)
            lost += len(unaccounted.lost)
    if lost:
        text = f"{lost} living recordings of {controller_id} have no key: oubliette restore"
        return Finding("fail", "key-indexes", text)
    if strays:
        text = f"{strays} ranges of keys of {controller_id} belong to nothing; the sweep ends them"
        return Finding("warn", "key-indexes", text)
    return Finding("ok", "key-indexes", f"every key of {controller_id} is accounted for")


def _shredded_prefixes(connection: sa.Connection, controller_id: str) -> frozenset[int]:
    query = sa.select(campaigns.c.prefix).where(
        campaigns.c.controller_id == controller_id,
        campaigns.c.state.in_(("shredding", "shredded")),
    )
    return frozenset(connection.execute(query).scalars())


def _owned(connection: sa.Connection, controller_id: str, prefix: int) -> list[int]:
    def of(table: sa.Table, *states: str) -> list[int]:
        query = sa.select(table.c.leaf_index).where(
            table.c.controller_id == controller_id,
            table.c.prefix == prefix,
            table.c.state.in_(states),
        )
        return list(connection.execute(query).scalars())

    return sorted({*of(recordings, "stored"), *of(attempts, "open")})


def _overdue(service: Service) -> Finding:
    count = service.sweep.overdue()
    if count:
        text = f"{count} recordings are kept past their retention: oubliette sweep"
        return Finding("warn", "overdue", text)
    return Finding("ok", "overdue", "0 recordings are kept past their retention")
