"""Every port fails once at each call of a deposit: nothing acknowledged is lost, nothing hides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import DatabaseUnavailable, IntegrityFailure
from keys.errors import KeyUnavailable
from tests.fakes.fuse import Fuse, FusedStore
from tests.fakes.vault_stack import VaultStack, build
from vault.deposit import DepositRequest
from vault.errors import DepositLost, LedgerUnavailable, StoreUnavailable, UnsupportedAudio
from vault.ledger.append import Ledger
from vault.open_deposit import OpenDeposit
from vault.stores.local import FolderStore
from vault.tables import attempts, recordings

RAW = "audio/PCMA"
BODY = bytes(n * 131 % 251 for n in range(100_000))
REQUEST = DepositRequest("winter-sale", external_id="call-1", media_type=RAW)


@pytest.fixture
def vault(sqlite_database: Database, tmp_path: Path) -> VaultStack:
    return make(sqlite_database, tmp_path)


@pytest.fixture
def both(database: Database, tmp_path: Path) -> VaultStack:
    """Return a vault on each of the two databases."""
    return make(database, tmp_path)


def make(database: Database, tmp_path: Path) -> VaultStack:
    (tmp_path / "objects").mkdir()
    stack = build(database, FolderStore(tmp_path / "objects"), tmp_path)
    stack.campaign()
    return stack


def send(vault: VaultStack) -> bool:
    return vault.put(BODY, external_id="call-1", media_type=RAW).created


def states(vault: VaultStack) -> list[str]:
    with vault.database.read() as connection:
        query = sa.select(attempts.c.state).order_by(attempts.c.leaf_index)
        return list(connection.execute(query).scalars())


def kept(vault: VaultStack) -> int:
    with vault.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(recordings)).scalar_one()


@dataclass
class Failing(Fuse):
    """Raises at one step instead of killing."""

    at: str = ""

    def step(self, name: str) -> None:
        if name == self.at:
            raise StoreUnavailable(step=name)


@pytest.mark.parametrize(
    "step",
    [
        "before an object begins",
        "before a write",
        "before the object is durable",
        "after the object is durable",
    ],
)
def test_a_store_that_fails_leaves_an_abandoned_attempt_and_a_sender_that_may_try_again(
    vault: VaultStack, step: str
) -> None:
    broken = vault.over(store=FusedStore(vault.store, Failing(at=step)))
    with pytest.raises(StoreUnavailable):
        send(broken)
    assert states(vault) == ["abandoned"]
    assert kept(vault) == 0
    assert vault.events("deposit-refused") == []
    assert broken.attempts.refresh() == 0
    assert send(vault)


def test_a_flush_that_fails_is_answered_and_aborted(vault: VaultStack) -> None:
    broken = vault.over(store=FusedStore(vault.store, Failing(at="after a flush")))
    upload = broken.deposit.begin(broken.actor(), REQUEST)
    upload.write(BODY)
    with pytest.raises(StoreUnavailable):
        upload.flush()
    upload.abort()
    assert states(vault) == ["abandoned"]
    assert [path for path in (vault.root / "objects").rglob("*") if path.is_file()] == []


@dataclass
class ShortStore(FusedStore):
    """Says that fewer bytes are durable than were written."""

    def begin(self, key: str) -> ShortWriter:  # type: ignore[override]
        return ShortWriter(super().begin(key))


@dataclass
class ShortWriter:
    inner: object

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def finish(self) -> int:
        return self.inner.finish() - 1  # type: ignore[attr-defined,no-any-return]


def test_a_store_that_kept_another_length_is_not_believed(vault: VaultStack) -> None:
    with pytest.raises(IntegrityFailure):
        send(vault.over(store=ShortStore(vault.store, Fuse())))
    assert states(vault) == ["abandoned"]
    assert kept(vault) == 0


@dataclass(frozen=True)
class LosingDatabase(Database):
    """Loses the answer to one commit: the n-th, before or after it takes effect."""

    lost: int = 0
    takes_effect: bool = True
    seen: list[int] = field(default_factory=list)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.seen.append(1)
        loses = len(self.seen) == self.lost
        with super().transaction() as connection:
            yield connection
            if loses and not self.takes_effect:
                raise DatabaseUnavailable
        if loses:
            raise DatabaseUnavailable


@pytest.mark.parametrize(
    ("lost", "takes_effect", "left", "recordings_kept"),
    [
        (1, False, [], 0),
        (1, True, ["open"], 0),
        (2, False, ["abandoned"], 0),
        (2, True, ["stored"], 1),
    ],
)
def test_a_commit_without_an_answer_is_found_out_by_a_resend(
    both: VaultStack, *, lost: int, takes_effect: bool, left: list[str], recordings_kept: int
) -> None:
    both.keyring.warm(both.controller_id)
    database = LosingDatabase(both.database.engine, lost=lost, takes_effect=takes_effect)
    losing = both.over(database=database, ledger=replace(both.ledger, database=database))
    with pytest.raises(DatabaseUnavailable):
        send(losing)
    assert (states(both), kept(both)) == (left, recordings_kept)
    with both.database.transaction() as connection:
        both.attempts.mark_dead(connection, silent_s=-1)
    assert send(both) is not recordings_kept  # 200 when it was kept, else 201
    assert kept(both) == 1


@dataclass(frozen=True)
class MoodyLedger(Ledger):
    """Refuses to get ready from its n-th time on."""

    from_: int = 1
    asked: list[int] = field(default_factory=list)

    def prepare(self, controller_id: str | None = None) -> None:
        self.asked.append(1)
        if len(self.asked) >= self.from_:
            raise LedgerUnavailable(why="test")
        super().prepare(controller_id)


def moody(vault: VaultStack, from_: int) -> VaultStack:
    ledger = vault.ledger
    return vault.over(
        ledger=MoodyLedger(
            ledger.database, ledger.keyring, ledger.clock, ledger.ledger_controller_id, from_=from_
        )
    )


@pytest.mark.parametrize(("from_", "left"), [(1, []), (2, ["abandoned"])])
def test_no_ledger_no_deposit(vault: VaultStack, from_: int, left: list[str]) -> None:
    with pytest.raises(LedgerUnavailable):
        send(moody(vault, from_))
    assert (states(vault), kept(vault)) == (left, 0)
    assert send(vault)


def test_a_refusal_that_cannot_be_recorded_is_answered_as_that(vault: VaultStack) -> None:
    quiet = moody(vault, 2)
    upload = quiet.deposit.begin(quiet.actor(), REQUEST)
    with pytest.raises(UnsupportedAudio):
        upload.write(b"<html>")
    with pytest.raises(LedgerUnavailable):
        upload.abort("unsupported-audio")
    assert states(vault) == ["open"]  # silent from now on, and given up in a minute
    assert quiet.attempts.refresh() == 0
    with pytest.raises(LedgerUnavailable):
        moody(vault, 1).deposit.begin(vault.actor(), replace(REQUEST, metadata=b"{"))


def test_no_keys_no_deposit(vault: VaultStack) -> None:
    for folder in ("epochs", "epochs-2"):
        (vault.root / folder).rename(vault.root / f"{folder}-away")
    vault.keyring.close()
    with pytest.raises(KeyUnavailable):
        send(vault)
    assert (states(vault), kept(vault)) == ([], 0)
    for folder in ("epochs", "epochs-2"):
        (vault.root / f"{folder}-away").rename(vault.root / folder)
    assert send(vault)


def test_a_leaf_that_was_punctured_under_an_upload_makes_no_recording(vault: VaultStack) -> None:
    upload = vault.deposit.begin(vault.actor(), REQUEST)
    upload.write(BODY)
    with vault.database.read() as connection:
        [mine] = vault.attempts.dead(connection, silent_s=-1)
    vault.shredder.puncture(vault.controller_id, [mine.leaf])
    with pytest.raises(DepositLost):
        upload.finish()
    assert kept(vault) == 0


def test_a_database_that_is_gone_at_the_end_is_what_the_sender_is_told(vault: VaultStack) -> None:
    gone = LosingDatabase(vault.database.engine, lost=1, takes_effect=False)
    upload = vault.deposit.begin(vault.actor(), REQUEST)
    upload.write(BODY)
    assert isinstance(upload, OpenDeposit)
    object.__setattr__(upload._end, "database", gone)
    with pytest.raises(DatabaseUnavailable):
        upload.finish()
    assert states(vault) == ["abandoned"]
