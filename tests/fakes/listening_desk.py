"""The listening half of a vault, for tests that listen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core.db import Database
from tests.fakes.vault_stack import VaultStack, build
from vault import listen_store
from vault.access import Actor
from vault.listen import Listens
from vault.listen_account import ListenAccounts
from vault.open_audio import OpenAudio, Player
from vault.stores.local import FolderStore
from vault.stream_turns import StreamTurns
from vault.streams import Streams
from vault.tables import listens
from vault.ticket import GrantedListen

REASON = "Monthly review of the team"
RAW = "audio/PCMA; rate=8000; channels=1"
BODY = bytes(n * 7 % 251 for n in range(400_000))


@dataclass(frozen=True)
class Desk:
    """The listening half of a vault, with one recording in it."""

    vault: VaultStack
    recording_id: str
    streams: Streams

    @property
    def manager(self) -> Actor:
        return self.vault.actor("quality-manager", campaigns=frozenset({"winter-sale"}))

    @property
    def listens(self) -> Listens:
        vault = self.vault
        return Listens(vault.database, vault.ledger, vault.gate, vault.clock)

    @property
    def accounts(self) -> ListenAccounts:
        vault = self.vault
        return ListenAccounts(vault.database, vault.ledger, vault.clock, self.streams)

    @property
    def player(self) -> Player:
        vault = self.vault
        return Player(
            vault.database,
            vault.keyring,
            vault.store,
            self.accounts,
            self.streams,
            vault.clock,
            StreamTurns(vault.database, vault.clock, vault.keyring.owner),
        )

    def grant(self, actor: Actor | None = None, **changes: Any) -> GrantedListen:
        asked: dict[str, Any] = {
            "purpose": "quality-control",
            "reason": REASON,
            "bind_cookie": False,
        }
        recording_id = changes.pop("recording_id", self.recording_id)
        return self.listens.grant(actor or self.manager, recording_id, **asked | changes)

    def open(self, listen: GrantedListen, first: int = 0, last: int | None = None) -> OpenAudio:
        return open_audio(self.player, listen, first, last)

    def hear(self, listen: GrantedListen, first: int = 0, last: int | None = None) -> bytes:
        """Play a range to its end; what was delivered is saved when this returns."""
        player = self.player
        heard = play(open_audio(player, listen, first, last))
        player.turns.close()  # its thread counts, and an end in between would be amended
        return heard

    def row(self, listen: GrantedListen) -> listen_store.TicketRow:
        with self.vault.database.read() as connection:
            found = listen_store.find_ticket(connection, listen.id)
        assert found is not None
        return found

    def change(self, table: sa.Table, **values: Any) -> None:
        with self.vault.database.transaction() as connection:
            connection.execute(sa.update(table).values(**values))

    def shift_expiry(self, listen: GrantedListen, by: timedelta) -> None:
        expires_at = self.row(listen).expires_at + by
        self.change(listens, expires_at=expires_at)


def open_audio(player: Player, listen: GrantedListen, first: int, last: int | None) -> OpenAudio:
    admission = player.admit(listen.id, ticket=listen.ticket, cookie=listen.cookie)
    end = admission.total_bytes - 1 if last is None else last
    return player.open(admission, first=first, last=end)


def play(audio: OpenAudio) -> bytes:
    heard = b""
    try:
        while True:
            if audio.upkeep_due:
                audio.upkeep()
            batch = audio.next_batch()
            if not batch:
                return heard
            audio.delivered(len(batch))
            heard += batch
    finally:
        audio.close()


def open_desk(database: Database, folder: Path) -> Desk:
    """Return a desk with one deposited recording, ``BODY``."""
    (folder / "objects").mkdir()
    vault = build(database, FolderStore(folder / "objects"), folder)
    vault.campaign()
    made = vault.put(BODY, media_type=RAW)
    return Desk(vault, made.recording_id, Streams())
