"""A signed receipt for a deposit: what the vault took, and its place in the ledger.

A signed note (``keys.signing``) whose text is

    oubliette deposit receipt v1
    origin <of the ledger>
    leaf <base64, 120 bytes>
    salt <base64, 32 bytes>
    event <canonical JSON, one line>
    <blank line>
    <tlog-proof of the leaf>

Salt and event are left out once the ledger has forgotten the month, and for a sender who repeats
another's deposit; blank line and proof are left out until the entry is under a checkpoint. The leaf
carries the key commitment and the SHA-256 of the sealed body: whoever holds the sealed object can
compare it without any key.

Does not protect against: a vault that signs a receipt and drops the entry before its checkpoint;
such a receipt, shown later, convicts it.

Source: C2SP signed-note; C2SP tlog-proof.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.canonical import Json
from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from keys.signing import NoteSigner, verify_note
from vault.access import Actor
from vault.errors import LedgerUnavailable, ListenDenied, RecordingNotFound
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.checkpoint import Checkpoint, read_base64, write_hash
from vault.ledger.leaf import Leaf, check_disclosure
from vault.ledger.proof import verify_proof
from vault.tables import campaigns, ledger_entries, recordings

FIRST_LINE: Final = "oubliette deposit receipt v1"
_READERS: Final = frozenset({"auditor", "dpo"})
_DEPOSITED: Final = "recording-deposited"


@dataclass(frozen=True)
class ReceiptFacts:
    """What a receipt proves.

    Attributes:
        leaf: what the ledger holds for ever. event: what the leaf commits to, None if forgotten.
        checkpoint: of the ledger that holds the leaf, None before it was sequenced.
    """

    leaf: Leaf
    event: dict[str, Json] | None
    checkpoint: Checkpoint | None


@dataclass(frozen=True)
class Receipts:
    """Writes receipts; the signer's name is the ledger's origin."""

    database: Database
    ledger: Ledger
    signer: NoteSigner

    def immediate(self, entry: AppendedEntry) -> str:
        """Return the receipt of a deposit that has just been committed, without a proof yet."""
        return self.signer.sign(self._head(entry.leaf, entry.salt, entry.text))

    def deposit(self, actor: Actor, recording_id: str) -> str:
        """Return the receipt of a recording's deposit, with its proof once there is one.

        The recording may be erased: the receipt says nothing of what was heard.

        Raises:
            RecordingNotFound: outside the actor's scope, or an intake's and not its own deposit.
            ListenDenied: the actor is neither auditor, DPO nor intake.
            LedgerUnavailable, KeyUnavailable: try again.
        """
        row = self._find(actor, recording_id)
        if row is None or not _in_scope(actor, row) or not _is_told(actor, row):
            raise RecordingNotFound
        return self._receipt(row.deposit_entry_id, discloses=True)

    def again(self, actor: Actor, recording_id: str) -> str:
        """Return the receipt to whoever has just deposited the same recording once more.

        Keys and upload addresses change between two tries, so the sender may be another one. The
        whole body was its right to an answer; who sent the first one is left out for it.

        Raises:
            RecordingNotFound: not of the actor's controller. LedgerUnavailable, KeyUnavailable.
        """
        row = self._find(actor, recording_id)
        if row is None:
            raise RecordingNotFound
        return self._receipt(row.deposit_entry_id, discloses=row.actor_id == actor.id)

    def _find(self, actor: Actor, recording_id: str) -> Any:
        with self.database.read() as connection:
            return _read_deposit(connection, actor.controller_id, recording_id)

    def _receipt(self, entry_id: str, *, discloses: bool) -> str:
        text = self._text(entry_id, discloses=discloses)
        with suppress(LedgerUnavailable):  # not under a checkpoint yet
            text += f"\n{self.ledger.proof(entry_id)}"
        return self.signer.sign(text)

    def _text(self, entry_id: str, *, discloses: bool) -> str:
        if discloses:
            with suppress(LeafPunctured):
                opened = self.ledger.open_entry(entry_id)
                return self._head(opened.leaf, opened.salt, opened.text)
        return self._head(self.ledger.row(entry_id).leaf, None, None)

    def _head(self, leaf: bytes, salt: bytes | None, event: bytes | None) -> str:
        lines = [FIRST_LINE, f"origin {self.signer.name}", f"leaf {write_hash(leaf)}"]
        if salt is not None and event is not None:
            lines += [f"salt {write_hash(salt)}", f"event {event.decode()}"]
        return "\n".join(lines) + "\n"


def verify_receipt(note: str, *vkeys: str) -> ReceiptFacts:
    """Check a receipt offline, with the ledger's public key alone.

    Args:
        note: the receipt as it was received.
        vkeys: verifier keys of the ledger, at least one.

    Raises:
        IntegrityFailure: not signed, not a receipt, or its leaf, event and proof do not belong
            together.
    """
    head, blank, proof = verify_note(note, *vkeys).partition("\n\n")
    fields = _fields(head if blank else head.removesuffix("\n"))
    if fields["origin"] not in {vkey.partition("+")[0] for vkey in vkeys}:
        raise IntegrityFailure(what="receipt-origin")
    leaf = read_base64(fields["leaf"])
    read = Leaf.decode(leaf)
    event = None
    if "event" in fields:
        event = check_disclosure(leaf, read_base64(fields["salt"]), fields["event"].encode())
    if read.type != _DEPOSITED:
        raise IntegrityFailure(what="receipt")
    return ReceiptFacts(read, event, verify_proof(proof, leaf, *vkeys) if blank else None)


def _fields(head: str) -> dict[str, str]:
    first, *lines = head.split("\n")
    pairs = [line.partition(" ") for line in lines]
    names = [name for name, _, _ in pairs]
    if first != FIRST_LINE or names not in (
        ["origin", "leaf", "salt", "event"],
        ["origin", "leaf"],
    ):
        raise IntegrityFailure(what="receipt")
    return {name: value for name, _, value in pairs}


def _read_deposit(connection: Connection, controller_id: str, recording_id: str) -> Any:
    """Return what says who deposited a recording, and where; None when there is none."""
    query = (
        sa.select(
            recordings.c.deposit_entry_id,
            recordings.c.campaign_id,
            campaigns.c.slug,
            ledger_entries.c.actor_id,
        )
        .join(campaigns, campaigns.c.id == recordings.c.campaign_id)
        .join(ledger_entries, ledger_entries.c.id == recordings.c.deposit_entry_id)
        .where(recordings.c.id == recording_id, recordings.c.controller_id == controller_id)
    )
    return connection.execute(query).one_or_none()


def _is_told(actor: Actor, row: Any) -> bool:
    """Tell whether the deposit is the actor's own, or the actor supervises.

    Raises:
        ListenDenied: neither auditor, DPO nor intake.
    """
    if actor.roles & _READERS:
        return True
    if "intake" not in actor.roles:
        raise ListenDenied(why="role")
    return bool(row.actor_id == actor.id)


def _in_scope(actor: Actor, row: Any) -> bool:
    if actor.deposit_campaign_id is not None:
        return bool(actor.deposit_campaign_id == row.campaign_id)
    return actor.covers(row.slug)
