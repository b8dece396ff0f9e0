"""A vault with all that ends recordings, over real keys, a real ledger and a test's own ports."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.clock import SystemClock
from core.db import Database, metadata
from core.ports import Clock
from keys.blobs import Places
from keys.keyring import Keyring
from keys.providers.registry import Providers
from keys.recovery import Recovery
from keys.shred import Shredder
from keys.signing import NoteSigner
from retention.brake import Brake
from retention.deletion import Deletion
from retention.erase import Erase
from retention.erasure_rows import Erasure
from retention.expiry import Expiry
from retention.hold import HoldRequest, Holds
from retention.hold_rows import Hold
from retention.policies import Policies
from retention.policy import PolicyRequest
from retention.restore import Restore
from retention.sweep import Sweep
from retention.tables import erasures
from retention.target import ErasureRequest, Target
from retention.upkeep import Upkeep
from tests.fakes.key_faults import Fuse, FusedDatabase, FusedPlace, FusedProvider
from tests.fakes.object_store import MemoryStore
from tests.fakes.small_call import small_call
from tests.fakes.vault_stack import PatientLedger, VaultStack
from tests.fakes.vault_stack import build as build_stack
from vault.ledger.journal import LedgerJournal
from vault.ledger.progress import Progress
from vault.ledger.sequence import Sequencer
from vault.listen import Listens
from vault.listen_account import ListenAccounts
from vault.open_audio import Player
from vault.ports import ObjectStore
from vault.sealed_audio import AudioReader, SealedAudio
from vault.stream_turns import StreamTurns
from vault.streams import Streams
from vault.tables import recordings

ORIGIN = "vault.example/oubliette/vlt_test"
REASON = "Asked for by letter on 2 March"
NUMBER = "+33612345678"


@dataclass(frozen=True)
class RetentionVault:
    """One vault; replace a port with ``over`` to try a fault."""

    stack: VaultStack
    signer: NoteSigner
    files: ObjectStore
    brake: Brake = field(default_factory=Brake)
    streams: Streams = field(default_factory=Streams)

    def over(self, **ports: Any) -> RetentionVault:
        """Return the same vault with ports of its stack, or parts of its own, replaced."""
        own = {name: ports.pop(name) for name in ("files", "brake") if name in ports}
        return replace(self, stack=self.stack.over(**ports) if ports else self.stack, **own)

    @property
    def database(self) -> Database:
        return self.stack.database

    @property
    def sequencer(self) -> Sequencer:
        return Sequencer(self.database, self.files, self.signer, self.stack.ledger)

    @property
    def accounts(self) -> ListenAccounts:
        return ListenAccounts(self.database, self.stack.ledger, self.stack.clock, self.streams)

    @property
    def listens(self) -> Listens:
        return Listens(self.database, self.stack.ledger, self.stack.gate, self.stack.clock)

    @property
    def player(self) -> Player:
        stack = self.stack
        return Player(
            stack.database,
            stack.keyring,
            stack.store,
            self.accounts,
            self.streams,
            stack.clock,
            StreamTurns(stack.database, stack.clock, stack.keyring.owner),
        )

    @property
    def policies(self) -> Policies:
        return Policies(self.database, self.stack.ledger, self.stack.clock)

    @property
    def holds(self) -> Holds:
        return Holds(
            self.database,
            self.stack.keyring,
            self.stack.ledger,
            self.accounts,
            self.stack.clock,
            "FR",
        )

    @property
    def erase(self) -> Erase:
        return Erase.of(
            database=self.database,
            keyring=self.stack.keyring,
            shredder=self.stack.shredder,
            ledger=self.stack.ledger,
            listens=self.accounts,
            signer=self.signer,
            clock=self.stack.clock,
            region="FR",
        )

    @property
    def upkeep(self) -> Upkeep:
        stack = self.stack
        return Upkeep(self.database, stack.keyring, stack.shredder, stack.ledger, stack.attempts)

    @property
    def sweep(self) -> Sweep:
        erase = self.erase
        expiry = Expiry(
            self.database, self.stack.ledger, erase.first_step, self.stack.clock, self.brake
        )
        deletion = Deletion(self.database, self.stack.store)
        return Sweep(self.database, erase, expiry, self.upkeep, deletion, self.accounts)

    @property
    def recovery(self) -> Recovery:
        shredder = self.stack.shredder
        return Recovery(
            self.database,
            shredder.providers,
            shredder.places,
            self.stack.clock,
            shredder.journal,
            self.stack.ledger.ledger_controller_id,
        )

    @property
    def restore(self) -> Restore:
        stack = self.stack
        return Restore(
            database=self.database,
            store=stack.store,
            keyring=stack.keyring,
            recovery=self.recovery,
            providers=stack.shredder.providers,
            ledger=stack.ledger,
            sequencer=self.sequencer,
            clock=stack.clock,
        )

    def restarted(
        self,
        fuse: Fuse | None = None,
        *,
        providers: Providers | None = None,
        owner: str | None = None,
    ) -> RetentionVault:
        """Return the vault as a new process has it, one that dies at the fuse's step if given."""
        old = self.stack if owner is None else self.stack.over(owner=owner)
        database = old.database
        providers, places = providers or old.shredder.providers, old.shredder.places
        if fuse is not None:
            database = FusedDatabase(database.engine, fuses=(fuse,))
            providers = Providers([FusedProvider(one, fuse) for one in providers])
            places = Places([FusedPlace(one, fuse) for one in places.places])
        keyring = Keyring(database, providers, places, old.clock, old.owner)
        ledger = replace(old.ledger, database=database, keyring=keyring, progress=Progress())
        shredder = Shredder(
            database, providers, places, keyring, old.clock, LedgerJournal(ledger), old.owner
        )
        stack = old.over(database=database, keyring=keyring, ledger=ledger, shredder=shredder)
        return replace(self, stack=stack, streams=Streams())

    @property
    def dpo(self) -> Any:
        return self.stack.actor("dpo")

    def policy(self, slug: str = "winter-sale", **changes: Any) -> Any:
        """Put a policy in force as a DPO does."""
        wanted = PolicyRequest(
            legal_basis="legitimate-interests",
            balancing_text="Staff are told, calls are short.",
            listen_purposes=("quality-control",),
            countries=("FR",),
            preset="quality",
        )
        return self.policies.put(self.dpo, slug, replace(wanted, **changes))

    def deposit(
        self,
        *,
        campaign: str = "winter-sale",
        number: str = NUMBER,
        days_ago: float = 0,
        external_id: str | None = None,
        body: bytes | None = None,
    ) -> str:
        """Deposit one small call; returns its ``rec_`` id."""
        said: dict[str, Any] = {"contact_number": number}
        started_at = datetime.now(tz=UTC) - timedelta(days=days_ago)
        said["started_at"] = started_at.strftime("%Y-%m-%dT%H:%M:%SZ")
        kept = self.stack.put(
            body or call(),
            campaign,
            metadata=json.dumps(said).encode(),
            external_id=external_id,
        )
        return kept.recording_id

    def age(self, *recording_ids: str, days: float) -> None:
        """Make recordings older than they are, as if the database's clock had gone on."""
        with self.database.transaction() as connection:
            for recording_id in recording_ids:
                at = self.database.now(connection) - timedelta(days=days)
                connection.execute(
                    recordings.update()
                    .where(recordings.c.id == recording_id)
                    .values(retention_from=at, started_at=at)
                )

    def state(self, recording_id: str) -> str:
        return self.stack.recording(recording_id).state

    def plays(self, recording_id: str) -> bytes:
        """Return the whole clear audio, read as a listen reads it."""
        row = self.stack.recording(recording_id)
        self.stack.keyring.warm(row.controller_id)
        sealed = SealedAudio(
            subject=row.subject,
            object_key=row.object_key,
            wrapped_dek=row.wrapped_dek or b"",
            commitment=row.commitment,
            clear_bytes=row.clear_bytes,
        )
        reader = AudioReader(self.stack.keyring, self.stack.store, sealed)
        reader.prove()
        return reader.read(0, row.clear_bytes - 1)

    def plan(self, target: Target, ground: str = "objection") -> Erasure:
        return self.erase.plan(self.dpo, ErasureRequest(target, ground, REASON))

    def execute(self, planned: Erasure) -> Erasure:
        return self.erase.execute(self.dpo, planned.id, planned.plan_digest)

    def erase_all(self, target: Target, ground: str = "objection") -> Erasure:
        """Plan, execute and run an erasure, and order the ledger."""
        planned = self.plan(target, ground)
        self.execute(planned)
        self.erase.run(planned.id)
        self.sequencer.run_once()
        return self.erase.run(planned.id)

    def tombstones_without_keys(self, erasure_id: str, key_id: str) -> None:
        """Lie: say that keys are destroyed that are not, as a broken order would."""
        with self.database.transaction() as connection:
            connection.execute(
                erasures.update()
                .where(erasures.c.id == erasure_id)
                .values(
                    destroyed_at=self.database.now(connection),
                    epoch_after=0,
                    destroyed_key_ids=[key_id],
                    provider_uris=["local:test"],
                    limits=[],
                )
            )
        self.erase.run(erasure_id)

    def hold(self, **wanted: Any) -> Hold:
        asked: dict[str, Any] = {"kind": "hold", "reason": REASON} | wanted
        return self.holds.place(self.dpo, HoldRequest(**asked))

    def events(self, kind: str) -> list[dict[str, Any]]:
        return self.stack.events(kind)

    def living(self) -> list[str]:
        """Return the ids of stored recordings."""
        query = sa.select(recordings.c.id).where(recordings.c.state == "stored")
        with self.database.read() as connection:
            return sorted(connection.execute(query).scalars())


def call(seconds: float = 0.5, pitch: int = 7) -> bytes:
    """Return a small WAV."""
    return small_call(seconds, pitch)


def build(
    database: Database, root: Path, *, clock: Clock | None = None, store: ObjectStore | None = None
) -> RetentionVault:
    """Make a vault with one controller, one open campaign ``winter-sale`` and a real ledger."""
    clock = clock or SystemClock()
    stack = build_stack(database, store or MemoryStore(), root, clock=clock)
    files = MemoryStore()
    ledger_id = stack.ledger.ledger_controller_id
    ledger = PatientLedger(database, stack.keyring, clock, ledger_id, files=files)
    shredder = replace(stack.shredder, journal=LedgerJournal(ledger))
    assert isinstance(shredder, Shredder)
    signer = NoteSigner.load_or_create(f"local:{root / 'signing'}", ORIGIN)
    vault = RetentionVault(stack.over(ledger=ledger, shredder=shredder), signer, files)
    vault.stack.campaigns.create(vault.stack.actor("admin"), slug="winter-sale", name="Winter")
    vault.policy()
    vault.stack.campaigns.open(vault.dpo, "winter-sale")
    return vault


def spoil(vault: RetentionVault, object_key: str) -> None:
    """Flip a bit of an object: a byte written over its random last one may be the same one."""
    assert isinstance(vault.stack.store, MemoryStore)
    body = bytearray(vault.stack.store.objects[object_key])
    body[-1] ^= 1
    vault.stack.store.objects[object_key] = bytes(body)


def copy_rows(database: Database) -> dict[str, list[dict[str, Any]]]:
    """Return every row of a database: a backup that works on both engines."""
    with database.read() as connection:
        return {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in metadata.sorted_tables
        }


def put_rows_back(database: Database, copied: dict[str, list[dict[str, Any]]]) -> None:
    """Make a database what it was when it was copied."""
    with database.transaction() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
        for table in metadata.sorted_tables:
            if copied[table.name]:
                connection.execute(table.insert(), copied[table.name])
