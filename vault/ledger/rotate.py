"""A new signing key takes over: recorded in the ledger, vouched for by the old one.

Order: the new key is made beside the old one; an entry ``signing-key-changed`` names both; the
checkpoint over it is signed by both, so that whoever trusts the old key has its word for the new
one; then the old verifier key is kept, and the new key put in the old one's place. A crash leaves
the old key in force; the same command goes on with the same new key, and records it once more.

Does not protect against: a key that was stolen before it was rotated. Its notes still verify.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from core.errors import IntegrityFailure
from keys.signing import verify_note
from vault.errors import LedgerUnavailable
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.ledger.sequence import Sequencer

TRIES: Final = 50
BETWEEN_TRIES_S: Final = 0.05


@dataclass(frozen=True)
class Rotated:
    """What a rotation did.

    Attributes:
        vkey: of the key that signs from now on. old_vkey: of the one before.
        entry_id: of the ``signing-key-changed`` entry.
        ledger_size: of the checkpoint that both keys signed.
    """

    vkey: str
    old_vkey: str
    entry_id: str
    ledger_size: int


def rotate(sequencer: Sequencer, uri: str) -> Rotated:
    """Rotate the signing key. Servers may run: each follows within seconds (``NoteSigner.renew``).

    Args:
        sequencer: of the key in force.
        uri: where the key lies (``local:<folder>``), the same folder for every server.

    Raises:
        LedgerUnavailable: the entry cannot be written, or other sequencers left no moment for a
            checkpoint that both keys sign; the old key is in force.
        LedgerCorrupt, StoreUnavailable, KeyUnavailable: likewise.
    """
    old, old_vkey = sequencer.signer, sequencer.signer.vkey
    while sequencer.run_once():
        pass
    new = old.successor(uri)
    entry_id = _record(sequencer.ledger, old_vkey, new.vkey)
    size = _sign_with_both(replace(sequencer, signer=new), entry_id, old_vkey)
    new.hand_over(uri)
    return Rotated(new.vkey, old_vkey, entry_id, size)


def _record(ledger: Ledger, old_vkey: str, new_vkey: str) -> str:
    ledger.prepare()
    event = Event(
        "signing-key-changed",
        system_actor(ledger.ledger_controller_id, "keys"),
        ledger.ledger_controller_id,
        outcome="changed",
        facts={"vkey": new_vkey, "vkey_before": old_vkey},
    )
    return ledger.append_alone(event).id


def _sign_with_both(both: Sequencer, entry_id: str, old_vkey: str) -> int:
    """Publish a checkpoint over the entry that both keys sign; return its size."""
    for _ in range(TRIES):
        both.run_once()
        both.publisher.publish(sign_again=True)
        published = both.publisher.published()
        index = both.ledger.row(entry_id).seq
        if published is not None and index is not None and index < published.checkpoint.size:
            with suppress(IntegrityFailure):  # another sequencer was quicker, with the old key only
                for vkey in (old_vkey, both.signer.vkey):
                    verify_note(published.note, vkey)
                return published.checkpoint.size
        time.sleep(BETWEEN_TRIES_S)
    raise LedgerUnavailable(why="sequencer-busy")
