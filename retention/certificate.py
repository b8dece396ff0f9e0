"""The certificate of an erasure: one signed text that a person reads and a program checks. Pure.

    oubliette erasure certificate v1
    <certificate id>
    <origin of the ledger>
    <blank line, then plain words: French, English>
    <blank line>
    <canonical JSON (RFC 8785) on one line>

signed as a C2SP note by the vault's key. The words follow from the JSON: a checker writes them anew
and compares, so the two cannot disagree. The JSON carries the ledger entry of the shred with its
salt, its leaf and an inclusion proof under a signed checkpoint, so a certificate opens for ever,
also when the ledger's month has been forgotten.

Anyone verifies it offline with the verifier key alone; tampering with any character fails.

Does not protect against: a vault that lies about what its key provider did (the words name the
provider and its limits); a signing key that was stolen; a snapshot of the whole machine, keys
included, taken before: without an outside anchor (``anchor: none``) nobody can tell.
It never says "legally erased": whether the law is satisfied is for the controller to judge.

Source: NIST SP 800-88 rev. 2 section 4.6 (what a certificate must state); C2SP signed-note,
tlog-proof; GDPR Art. 5(2), 17.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from core import canonical
from core.errors import OublietteError
from keys.signing import verify_note
from retention import certificate_words as words
from retention.certificate_limits import keys_deleted_on
from retention.errors import CertificateInvalid
from retention.tombstone_list import list_sha256
from vault.ledger.leaf import Leaf, check_disclosure
from vault.ledger.proof import verify_proof

FIRST_LINE: Final = "oubliette erasure certificate v1"
_SHRED_TYPES: Final = frozenset({"recording-shredded", "campaign-shredded"})
_SAME_IN_ENTRY: Final = ("erasure", "kind", "recordings", "list_sha256")


@dataclass(frozen=True)
class CertificateFacts:
    """What a certificate proves, once verified; instants as RFC 3339 texts.

    Attributes:
        recording_ids: None when there are too many to list: then ``list_sha256`` stands for them.
        keys_deleted_on: the second date, where the provider deletes keys days after it disabled
            them. hsm_backup_policy: what the operator declared, where keys lay in HSMs.
        ledger_size: of the checkpoint that covers the entry.
    """

    certificate_id: str
    origin: str
    erasure_id: str
    controller_id: str
    campaign_id: str | None
    kind: str
    legal_ground: str
    recordings: int
    recording_ids: tuple[str, ...] | None
    list_sha256: str
    inaccessible_at: str
    destroyed_at: str
    provider_uris: tuple[str, ...]
    destroyed_key_ids: tuple[str, ...]
    limits: tuple[str, ...]
    keys_deleted_on: str | None
    hsm_backup_policy: str | None
    epoch_before: int
    epoch_after: int
    external_ids_until: str | None
    anchor: str
    entry_id: str
    ledger_size: int


def write(facts: Mapping[str, Any]) -> str:
    """Return the text to be signed.

    Args:
        facts: the JSON members, as ``retention.certification`` gathers them.
    """
    head = [FIRST_LINE, facts["certificate"], facts["origin"], ""]
    machine = canonical.encode(facts).decode()
    return "\n".join([*head, words.french(facts), "", words.english(facts), "", machine, ""])


def verify_certificate(text: str, *vkeys: str) -> CertificateFacts:
    """Check a certificate offline and return what it proves.

    Args:
        text: the whole signed text.
        vkeys: the vault's verifier keys (after a rotation the old ones too).

    Raises:
        CertificateInvalid: facts name the first thing that does not hold.
    """
    try:
        body = verify_note(text, *vkeys)
        facts = _read(body)
        event = _check_entry(facts)
        checkpoint = verify_proof(facts["proof"], bytes.fromhex(facts["entry"]["leaf"]), *vkeys)
    except (OublietteError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise CertificateInvalid(what=_what(err)) from err
    if checkpoint.origin != facts["origin"]:
        raise CertificateInvalid(what="origin")
    return _facts(facts, event, checkpoint.size)


def _read(body: str) -> dict[str, Any]:
    """Return the JSON of a certificate whose words and order are exactly what it calls for."""
    facts: dict[str, Any] = json.loads(body.removesuffix("\n").rpartition("\n")[2])
    if write(facts) != body:
        raise CertificateInvalid(what="words")
    return facts


def _check_entry(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the ledger event, which says the same as the certificate about the same recordings."""
    entry = facts["entry"]
    leaf = bytes.fromhex(entry["leaf"])
    event: Mapping[str, Any] = check_disclosure(
        leaf, bytes.fromhex(entry["salt"]), entry["text"].encode()
    )
    said = event["facts"]
    differs = [name for name in _SAME_IN_ENTRY if said[name] != facts[name]]
    if event["type"] not in _SHRED_TYPES or event["controller"] != facts["controller"] or differs:
        raise CertificateInvalid(what="entry")
    if event["entry"] != entry["id"]:
        raise CertificateInvalid(what="entry-id")
    lines = facts["list"]
    if lines is not None:
        if len(lines) != facts["recordings"] or list_sha256(lines) != facts["list_sha256"]:
            raise CertificateInvalid(what="list")
        _check_leaf(Leaf.decode(leaf), event, lines)
    return event


def _check_leaf(leaf: Leaf, event: Mapping[str, Any], lines: list[str]) -> None:
    """The leaf of one recording names the very sealed object that the list names."""
    if event["type"] == "campaign-shredded":
        return
    line = f"{event['recording']} {leaf.key_commitment.hex()} {leaf.body_sha256.hex()}"
    if line not in lines:
        raise CertificateInvalid(what="leaf")


def _facts(facts: Mapping[str, Any], event: Mapping[str, Any], size: int) -> CertificateFacts:
    # long: one member after another
    lines = facts["list"]
    return CertificateFacts(
        certificate_id=facts["certificate"],
        origin=facts["origin"],
        erasure_id=facts["erasure"],
        controller_id=facts["controller"],
        campaign_id=facts["campaign"],
        kind=facts["kind"],
        legal_ground=facts["legal_ground"],
        recordings=facts["recordings"],
        recording_ids=None if lines is None else tuple(line.partition(" ")[0] for line in lines),
        list_sha256=facts["list_sha256"],
        inaccessible_at=facts["inaccessible_at"],
        destroyed_at=facts["destroyed_at"],
        provider_uris=tuple(facts["provider_uris"]),
        destroyed_key_ids=tuple(facts["destroyed_key_ids"]),
        limits=tuple(facts["limits"]),
        keys_deleted_on=keys_deleted_on(tuple(facts["limits"]), facts["destroyed_at"]),
        hsm_backup_policy=facts.get("hsm_backup_policy"),
        epoch_before=facts["epoch_before"],
        epoch_after=facts["epoch_after"],
        external_ids_until=facts["external_ids_until"],
        anchor=facts["anchor"],
        entry_id=str(event["entry"]),
        ledger_size=size,
    )


def _what(err: Exception) -> str:
    if isinstance(err, OublietteError):
        return str(err.facts.get("what", err.code))
    return "form"
