"""Tells an older copy of the database from the one that belongs here, before anything catches up.

A database is *behind* when the ledger's files hold more than it ever ordered, or when a provider
holds a newer epoch key of a controller and no longer the one that the pointer names. Either is the
trace of a restored backup (or of commits that were lost): indexes would be used twice and erased
rows would look alive. The opposite, a database ahead of the files, is an ordinary crash.

Newer keys beside the pointer's own are unfinished attempts and no alarm.

Without an outside anchor a snapshot of everything, keys included, cannot be told: ``anchor: none``.
"""

from __future__ import annotations

from core.db import Database
from keys.model import Pointer
from keys.providers.registry import Providers
from keys.store import KeyStore
from retention import restore_stop
from retention.errors import RestoreNeeded
from vault.ledger.append import Ledger
from vault.ledger.journal import LedgerJournal
from vault.ledger.rows import next_index
from vault.ledger.sequence import Sequencer


def check(database: Database, providers: Providers, sequencer: Sequencer) -> None:
    """Refuse a database that is behind; changes nothing.

    Raises:
        RestoreNeeded: facts say what is ahead of it.
        KeyUnavailable, StoreUnavailable, IntegrityFailure: it cannot be told now.
    """
    with database.read() as connection:
        if restore_stop.unfinished(connection):
            raise RestoreNeeded(ahead="restore-unfinished")
        ordered = next_index(connection)
    published = sequencer.publisher.published()
    if published is not None and published.checkpoint.size > ordered:
        raise RestoreNeeded(
            ahead="ledger", database_size=ordered, ledger_size=published.checkpoint.size
        )
    store = KeyStore(database)
    for controller_id in store.controllers():
        _check_keys(providers, store.read(controller_id))


def check_recovered(database: Database, ledger: Ledger, sequencer: Sequencer) -> None:
    """Refuse a pointer that is behind the ledger; write the entries that recovery left out.

    Call it once key material is recovered and the ledger is compared with its anchor.

    Raises:
        RestoreNeeded: the ledger, which extends its anchor, tells a later epoch than the pointer.
        KeyUnavailable, LedgerUnavailable, DatabaseUnavailable: it cannot be told now.
    """
    journal, store = LedgerJournal(ledger), KeyStore(database)
    for controller_id in store.controllers():
        told = journal.highest_epoch(controller_id)  # first: entry and pointer commit together
        pointer = store.read(controller_id)
        if told is not None and told > pointer.epoch:
            raise RestoreNeeded(
                ahead="ledger-epoch",
                controller=controller_id,
                database_epoch=pointer.epoch,
                newest_epoch=told,
            )
        if told is None or told < pointer.epoch:
            _order(sequencer)
            journal.record_missing(pointer)


def _order(sequencer: Sequencer) -> None:
    """Order what waited for this start, so that the ledger takes one more entry."""
    while sequencer.run_once():
        pass


def _check_keys(providers: Providers, pointer: Pointer) -> None:
    living = [key for one in providers for key in one.list_keys(pointer.controller_id)]
    if any(key.key_id == pointer.key_id for key in living):
        return
    newest = max((key.tag.epoch for key in living), default=-1)
    if newest > pointer.epoch:
        raise RestoreNeeded(
            ahead="keys",
            controller=pointer.controller_id,
            database_epoch=pointer.epoch,
            newest_epoch=newest,
        )
