"""A new signing key takes over: recorded in the ledger, vouched for by the old one.

Order: the new key is made beside the old one; an entry ``signing-key-changed`` names both; the
checkpoint over it is signed by both, so that whoever trusts the old key has its word for the new
one; then the old verifier key is kept, and the new key put in the old one's place. A crash leaves
the old key in force; the same command goes on with the same new key, and records it once more.

Does not protect against: a key that was stolen before it was rotated. Its notes still verify.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from core.errors import IntegrityFailure
from keys.signing import NoteSigner, verify_note
from vault.errors import LedgerUnavailable
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.ledger.sequence import Sequencer


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
    """Rotate the signing key; no other sequencer of this ledger may run.

    Args:
        sequencer: of the key in force.
        uri: where the key lies (``local:<folder>``).

    Raises:
        LedgerUnavailable: another sequencer runs, or the entry cannot be written; the old key is
            in force. LedgerCorrupt, StoreUnavailable, KeyUnavailable: likewise.
    """
    old = sequencer.signer
    while sequencer.run_once():
        pass
    new = old.successor(uri)
    entry_id = _record(sequencer.ledger, old, new)
    both = replace(sequencer, signer=new)
    while both.run_once():
        pass
    size = _signed_by_both(both, old)
    new.hand_over(uri)
    return Rotated(new.vkey, old.vkey, entry_id, size)


def _record(ledger: Ledger, old: NoteSigner, new: NoteSigner) -> str:
    ledger.prepare()
    event = Event(
        "signing-key-changed",
        system_actor(ledger.ledger_controller_id, "keys"),
        ledger.ledger_controller_id,
        outcome="changed",
        facts={"vkey": new.vkey, "vkey_before": old.vkey},
    )
    return ledger.append_alone(event).id


def _signed_by_both(both: Sequencer, old: NoteSigner) -> int:
    """Return the size of the published checkpoint once both signatures over it hold."""
    published = both.publisher.published()
    try:
        note = "" if published is None else published.note
        for vkey in (old.vkey, both.signer.vkey):
            verify_note(note, vkey)
    except IntegrityFailure as err:
        raise LedgerUnavailable(why="sequencer-busy") from err
    return 0 if published is None else published.checkpoint.size
