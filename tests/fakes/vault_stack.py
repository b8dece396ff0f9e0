"""The vault below its API, composed for tests: real keys, real ledger, a policy put straight.

``build`` makes a controller with its tree; ``over`` composes the same vault again with some of its
ports wrapped, which is how faults are tried: the product has no hooks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from keys.blob_folder import FolderPlace
from keys.blobs import Places
from keys.keyring import Keyring
from keys.model import Pointer
from keys.providers.local import LocalProvider
from keys.providers.registry import Providers
from keys.shred import Shredder
from retention.gate import Gate
from retention.tables import policies
from tests.fakes.clock import FakeClock
from vault import campaign as campaigns_of
from vault.access import Actor
from vault.attempt import Attempts
from vault.campaign import Campaign, Campaigns
from vault.catalogue import Catalogue
from vault.cursor import Cursors
from vault.deposit import Deposit, DepositRequest
from vault.deposit_end import Deposited
from vault.deposit_keys import DepositKeys
from vault.ledger.append import Ledger
from vault.ports import ObjectStore
from vault.store import Recording, read_recording
from vault.tables import ledger_entries

MAX_BYTES: Final = 8 * 1024 * 1024
LEDGER_ID: Final = ids.from_bits("ctl_", b"ledger's own....")
_numbers = itertools.count(1)


class TickingClock(FakeClock):
    """A clock that moves a millisecond a look, so that ledger entries have an order."""

    def now(self) -> datetime:
        self.instant += timedelta(milliseconds=1)
        return self.instant


class PatientLedger(Ledger):
    """The real ledger, but nobody is waiting: no sequencer runs here, however long a test takes.

    That a lagging queue closes the ledger is shown in ``tests/flows/test_ledger_append.py``.
    """

    def queue_lag_ms(self) -> int:
        return 0


class QuietJournal:
    """``keys.ports.KeyJournal`` that notes nothing."""

    def prepare(self) -> None:
        """Nothing to get ready."""

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        """Nobody reads it."""


@dataclass(frozen=True)
class VaultStack:
    """One vault; every flow is composed from the ports it holds."""

    database: Database
    store: ObjectStore
    root: Path
    clock: Clock
    keyring: Keyring
    shredder: Shredder
    ledger: Ledger
    controller_id: str
    owner: str = "test-1"
    max_bytes: int = MAX_BYTES
    attempts: Attempts = field(init=False)

    def __post_init__(self) -> None:
        attempts = Attempts(self.database, self.clock, self.owner)
        object.__setattr__(self, "attempts", attempts)

    def over(self, **ports: Any) -> VaultStack:
        """Return the same vault with some ports replaced; a database or a ledger reaches all."""
        return replace(self, **ports)

    @property
    def gate(self) -> Gate:
        return Gate()

    @property
    def campaigns(self) -> Campaigns:
        return Campaigns(self.database, self.ledger, self.clock, self.gate, "FR")

    @property
    def deposit_keys(self) -> DepositKeys:
        return DepositKeys(self.database, self.ledger, self.clock)

    @property
    def deposit(self) -> Deposit:
        return Deposit(
            database=self.database,
            campaigns=self.campaigns,
            attempts=self.attempts,
            keyring=self.keyring,
            store=self.store,
            ledger=self.ledger,
            gate=self.gate,
            clock=self.clock,
            recording_max_bytes=self.max_bytes,
        )

    @property
    def catalogue(self) -> Catalogue:
        cursors = Cursors(bytes(range(32)))
        return Catalogue(self.database, self.keyring, self.ledger, self.gate, cursors)

    def actor(self, *roles: str, campaigns: frozenset[str] | None = None) -> Actor:
        """Return a person of this vault's controller."""
        return Actor(
            id=ids.from_bits("act_", b"person.........1"),
            subject="someone",
            kind="person",
            roles=frozenset(roles or {"intake", "admin", "dpo"}),
            controller_id=self.controller_id,
            campaigns=campaigns,
        )

    def foreigner(self, *roles: str) -> Actor:
        """Return a person of another controller, made with a tree of its own."""
        other = ids.from_bits("ctl_", self.clock.random_bytes(16))
        with self.database.transaction() as connection:
            campaigns_of.create_controller(
                connection,
                controller_id=other,
                slug=f"other-{next(_numbers)}",
                name="Other",
                at=self.database.now(connection),
            )
        self.shredder.create_tree(other)
        return replace(self.actor(*roles), controller_id=other)

    def campaign(
        self,
        slug: str = "winter-sale",
        *,
        retention: str = "P6M",
        countries: tuple[str, ...] = ("FR",),
        opened: bool = True,
    ) -> Campaign:
        """Make a campaign with a policy, open unless told otherwise."""
        made = self.campaigns.create(self.actor("admin"), slug=slug, name=slug)
        self.set_policy(made, retention=retention, countries=countries)
        return self.campaigns.open(self.actor("dpo"), slug) if opened else made

    def set_policy(
        self, campaign: Campaign, *, retention: str = "P6M", countries: tuple[str, ...] = ("FR",)
    ) -> None:
        """Put a policy in force without asking anybody."""
        with self.database.transaction() as connection:
            connection.execute(
                policies.insert().values(
                    campaign_id=campaign.id,
                    version=next(_numbers),
                    retention=retention,
                    legal_basis="legitimate-interest",
                    balancing_text="made for a test",
                    justification="",
                    set_at=self.database.now(connection),
                    set_by=self.actor().id,
                )
            )
            campaigns_of.set_terms(
                connection,
                campaign.id,
                processor="Call Centre",
                listen_purposes=("quality-control",),
                countries=countries,
            )

    def put(
        self,
        body: bytes,
        campaign: str = "winter-sale",
        *,
        actor: Actor | None = None,
        cut: int = 65_536,
        **request: Any,
    ) -> Deposited:
        """Deposit a whole body as a route does."""
        upload = self.deposit.begin(actor or self.actor(), DepositRequest(campaign, **request))
        for start in range(0, len(body), cut):
            if upload.write(body[start : start + cut]):
                upload.flush()
        return upload.finish()

    def recording(self, recording_id: str) -> Recording:
        """Return a row, whoever asks."""
        with self.database.read() as connection:
            found = read_recording(connection, recording_id)
        assert found is not None
        return found

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the ledger's events of one type, oldest first."""
        query = (
            sa.select(ledger_entries.c.id)
            .where(ledger_entries.c.type == kind)
            .order_by(ledger_entries.c.happened_at, ledger_entries.c.id)
        )
        with self.database.read() as connection:
            found = connection.execute(query).scalars().all()
        return [self.ledger.open_event(one) for one in found]


def open_keys(database: Database, root: Path, clock: Clock, owner: str) -> tuple[Keyring, Shredder]:
    """Return keyring and shredder over two folders of keys and two of blobs."""
    providers = Providers((LocalProvider((root / "epochs", root / "epochs-2")),))
    places = Places((FolderPlace(root / "blobs"), FolderPlace(root / "blobs-2")))
    keyring = Keyring(database, providers, places, clock, owner)
    return keyring, Shredder(database, providers, places, keyring, clock, QuietJournal(), owner)


def reopen(stack: VaultStack, database: Database, store: ObjectStore, *, owner: str) -> VaultStack:
    """Return a vault as another process, or the next one, opens it."""
    keyring, shredder = open_keys(database, stack.root, stack.clock, owner)
    return replace(
        stack,
        database=database,
        store=store,
        keyring=keyring,
        shredder=shredder,
        ledger=PatientLedger(database, keyring, stack.clock, LEDGER_ID),
        owner=owner,
    )


def build(
    database: Database, store: ObjectStore, root: Path, *, clock: Clock | None = None
) -> VaultStack:
    """Make a vault with one controller in an empty database."""
    clock = clock or TickingClock()
    keyring, shredder = open_keys(database, root, clock, "test-1")
    shredder.create_tree(LEDGER_ID, journaled=False)
    controller_id = ids.from_bits("ctl_", clock.random_bytes(16))
    with database.transaction() as connection:
        campaigns_of.create_controller(
            connection,
            controller_id=controller_id,
            slug=f"acme-{next(_numbers)}",
            name="Acme",
            at=database.now(connection),
        )
    shredder.create_tree(controller_id)
    ledger = PatientLedger(database, keyring, clock, LEDGER_ID)
    return VaultStack(
        database=database,
        store=store,
        root=root,
        clock=clock,
        keyring=keyring,
        shredder=shredder,
        ledger=ledger,
        controller_id=controller_id,
    )
