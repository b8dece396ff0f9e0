"""Who listened to a recording, as one signed file that an outsider checks offline.

    oubliette listens v1
    <recording id>
    <origin of the ledger>
    <blank line, then plain words: one line a listen>
    <blank line>
    <canonical JSON (RFC 8785) on one line>

signed as a C2SP note by the vault's key. The words follow from the JSON; a checker writes them anew
and compares. The JSON holds each entry about a listen with its leaf, the salt and text that open
it, and an inclusion proof. A line joins a granted listen with its end: the closing entry names the
granting one (fact ``granted``), and the newest one that does counts. Listeners stand as pseudonym
and roles; their names, which the text only commits to, are shown when the vault's policy says so. A
reason is there while the recording lives.

Does not protect against: a vault that leaves a listen out (an auditor with the whole ledger counts
them); listens from before the ledger's retention, which nobody can tell any more (the words say
since when).

Source: GDPR Art. 15(1)(c); C2SP signed-note, tlog-proof.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from core import canonical
from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from keys.signing import NoteSigner, verify_note
from vault import listen_store
from vault.access import Actor
from vault.errors import LedgerUnavailable, RecordingNotFound
from vault.ledger.append import Ledger
from vault.ledger.checkpoint import read_base64, write_hash
from vault.ledger.entry import Event, month_of
from vault.ledger.forget import month_end
from vault.ledger.leaf import check_disclosure, commit_name, commit_narrative
from vault.ledger.proof import verify_proof
from vault.ledger.seal import OpenedEntry

FIRST_LINE: Final = "oubliette listens v1"
ENTRIES_MAX: Final = 1_000
WAIT_S: Final = 2.0
GRANTED: Final = "listen-granted"
_TYPES: Final = frozenset({GRANTED, "listen-closed", "listen-denied", "download"})


@dataclass(frozen=True)
class ShownListen:
    """One entry of the file, verified.

    Attributes:
        name: of the listener, None where only the pseudonym is shown.
        reason: None where there was none, or it died with the recording.
        granted: of a ``listen-closed``, the entry of the grant that it ends.
        ledger_size: of the checkpoint that covers it, None while it waited for one.
    """

    entry_id: str
    type: str
    at: str
    actor_id: str
    roles: tuple[str, ...]
    name: str | None
    purpose: str | None
    outcome: str | None
    reason: str | None
    delivered_ms: int | None
    granted: str | None
    ledger_size: int | None


@dataclass(frozen=True)
class ListenReceiptFacts:
    """What a file proves; instants as RFC 3339 texts."""

    recording_id: str
    origin: str
    made_at: str
    since: str
    entries: tuple[ShownListen, ...]

    @property
    def listens(self) -> list[tuple[ShownListen, ShownListen | None]]:
        """Return each granted listen with its end; None while it ran, or when that is not told."""
        ends = {one.granted: one for one in self.entries if one.granted is not None}
        granted = (one for one in self.entries if one.type == GRANTED)
        return [(one, ends.get(one.entry_id)) for one in granted]


@dataclass(frozen=True)
class ListenReceipts:
    """Writes the file for an officer or an auditor.

    Attributes:
        names: whether listeners are named; else they stand as pseudonym and roles.
        retention_months: of the ledger; what is older cannot be told.
    """

    database: Database
    ledger: Ledger
    signer: NoteSigner
    names: bool
    retention_months: int

    def of_recording(self, actor: Actor, recording_id: str) -> str:
        """Return the signed file; the ledger holds the export before it is returned.

        Raises:
            RecordingNotFound: not in the actor's scope.
            LedgerUnavailable, KeyUnavailable, LeaseLost: nothing was given out.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.read() as connection:
            if not listen_store.in_scope(connection, actor, recording_id):
                raise RecordingNotFound
            now = self.database.now(connection)
        entries = list(self._entries(recording_id))
        facts: dict[str, Any] = {
            "v": 1,
            "recording": recording_id,
            "origin": self.signer.name,
            "made_at": to_text(now),
            "since": to_text(month_end(month_of(now) - self.retention_months - 1)),
            "entries": entries,
        }
        note = self.signer.sign(write(facts))
        self._record(actor, recording_id, len(entries))
        return note

    def _entries(self, recording_id: str) -> Iterator[Mapping[str, Json]]:
        rows = [row for row in self.ledger.entries_of(recording_id) if row.type in _TYPES]
        rows = rows[-ENTRIES_MAX:]
        if rows:
            with suppress(LedgerUnavailable):
                self.ledger.wait_sequenced(rows[-1].id, WAIT_S)
        for row in rows:
            with suppress(LeafPunctured):
                yield self._entry(self.ledger.open_entry(row.id))

    def _entry(self, opened: OpenedEntry) -> dict[str, Json]:
        try:
            proof = self.ledger.proof(opened.id)
        except LedgerUnavailable:
            proof = None
        named = _opening(opened.name_salt, opened.name) if self.names else None
        reason = None
        if opened.narrative is not None and opened.narrative_salt is not None:
            reason = _opening(opened.narrative_salt, opened.narrative)
        return {
            "leaf": write_hash(opened.leaf),
            "salt": write_hash(opened.salt),
            "text": opened.text.decode(),
            "proof": proof,
            "name": named,
            "reason": reason,
        }

    def _record(self, actor: Actor, recording_id: str, count: int) -> None:
        with self.database.read() as connection:
            campaign_id = listen_store.campaign_of(connection, recording_id)
        facts: dict[str, Json] = {"what": "listens", "count": count, "names": self.names}
        self.ledger.append_alone(
            Event(
                "export",
                actor,
                actor.controller_id,
                campaign_id=campaign_id,
                recording_id=recording_id,
                facts=facts,
            )
        )


def write(facts: Mapping[str, Any]) -> str:
    """Return the text to be signed; a function of the facts."""
    head = [FIRST_LINE, facts["recording"], facts["origin"], ""]
    words = [
        f"Qui a écouté cet enregistrement ? Écoutes connues depuis le {facts['since']}.",
        f"Who listened to this recording? What is known since {facts['since']}.",
        f"{facts['made_at']}: {len(facts['entries'])}",
        *_lines(facts["entries"]),
    ]
    return "\n".join([*head, *words, "", canonical.encode(facts).decode(), ""])


def verify_listens(note: str, *vkeys: str) -> ListenReceiptFacts:
    """Check a file offline, with the ledger's public key alone, and return what it proves.

    Raises:
        IntegrityFailure: not signed by the ledger, its words are not its facts', or an entry, a
            name, a reason or a proof does not belong where it stands.
    """
    text = verify_note(note, *vkeys)
    try:
        facts = json.loads(text.removesuffix("\n").rpartition("\n")[2])
        if write(facts) != text or facts["origin"] not in {one.partition("+")[0] for one in vkeys}:
            raise IntegrityFailure(what="listens")
        return ListenReceiptFacts(
            recording_id=facts["recording"],
            origin=facts["origin"],
            made_at=facts["made_at"],
            since=facts["since"],
            entries=tuple(_checked(one, facts["recording"], vkeys) for one in facts["entries"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise IntegrityFailure(what="listens") from err


def _checked(entry: Mapping[str, Any], recording_id: str, vkeys: Sequence[str]) -> ShownListen:
    leaf = read_base64(entry["leaf"])
    event: Mapping[str, Any] = check_disclosure(
        leaf, read_base64(entry["salt"]), entry["text"].encode()
    )
    if event["recording"] != recording_id or event["type"] not in _TYPES:
        raise IntegrityFailure(what="listens-entry")
    _check_openings(entry, event)
    proof = entry["proof"]
    return ShownListen(
        entry_id=event["entry"],
        type=event["type"],
        at=event["at"],
        actor_id=event["actor"]["id"],
        roles=tuple(event["actor"]["roles"]),
        name=_opened(entry["name"]),
        purpose=event["purpose"],
        outcome=event["outcome"],
        reason=_opened(entry["reason"]),
        delivered_ms=event["facts"].get("delivered_ms"),
        granted=event["facts"].get("granted"),
        ledger_size=None if proof is None else verify_proof(proof, leaf, *vkeys).size,
    )


def _check_openings(entry: Mapping[str, Any], event: Mapping[str, Any]) -> None:
    """Compare name and words, where they are shown, with what the text commits to."""
    for shown, commit, committed in (
        (entry["name"], commit_name, event["actor"]["subject"]),
        (entry["reason"], commit_narrative, event["narrative"]),
    ):
        if shown is not None and commit(*map(read_base64, shown)).hex() != committed:
            raise IntegrityFailure(what="listens-words")


def _opening(salt: bytes, words: str) -> list[str]:
    """Return what opens a commitment, in base64: words may hold what a terminal would obey."""
    return [write_hash(salt), write_hash(words.encode())]


def _opened(opening: Sequence[str] | None) -> str | None:
    return None if opening is None else read_base64(opening[1]).decode()


def _lines(entries: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a line for each listen with its end, and one for each other entry."""
    events = [json.loads(one["text"]) for one in entries]
    known = {event["entry"] for event in events if event["type"] == GRANTED}
    ends = {event["facts"].get("granted"): event for event in events}
    for entry, event in zip(entries, events, strict=True):
        if event["facts"].get("granted") not in known:
            end = ends.get(event["entry"])
            line = _words(entry, event)
            line += "" if end is None else f"  → {end['at']}  {_long(end)}"
            yield "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in line)


def _words(entry: Mapping[str, Any], event: Mapping[str, Any]) -> str:
    """Return the words of one entry: when, what, who, for which purpose, how long, why."""
    who, reason = _opened(entry["name"]) or event["actor"]["id"], _opened(entry["reason"])
    parts = [
        event["at"],
        event["type"],
        who,
        ",".join(event["actor"]["roles"]),
        event["purpose"] or "",
        _long(event),
        "" if reason is None else f"« {reason} »",
    ]
    return "  ".join(part for part in parts if part)


def _long(event: Mapping[str, Any]) -> str:
    """Return how much was delivered, in seconds."""
    ms = event["facts"].get("delivered_ms")
    return "" if ms is None else f"{ms // 1000}.{ms % 1000:03d} s"
