"""One event of the ledger: what happened, as a text that can die while its leaf stays.

The *event text* is canonical JSON (RFC 8785) with the members ``v entry type at controller campaign
recording actor purpose outcome facts narrative``. ``narrative`` is null or the hex of
SHA-256("oubliette/narrative-text/v1" | salt 32 | UTF-8 of the free text), and ``actor.subject`` is
the hex of SHA-256("oubliette/actor-name/v1" | salt 32 | UTF-8 of the issuer's name for the actor):
whoever is shown the text sees a pseudonym and roles, and the name only when that is shown too.

Salt, name and event text are sealed together under the month's leaf of the ledger's own tree
(``vault.ledger.seal``); the narrative's salt and words apart (salt | words), under the recording's
leaf, or the month's when the event concerns no single recording. Who, when, what and for which
purpose must outlive the recording, because an insider's listens stay provable; the words must not.

Does not protect against: a caller who writes a person's name into ``facts`` (they are for ids,
counts, codes and instants); the length of a sealed text.

Source: CNIL 2021-122; GDPR Art. 5(1)(e) and 17; RFC 8785.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from core import canonical, ids
from core.canonical import Json
from core.clock import to_text
from core.errors import InvalidRequest
from keys.model import Subject
from vault.access import Actor
from vault.ledger.leaf import CONTROLLER, DIGEST_BYTES, EVENT_CODES, LEAF_VERSION, ZEROS, Leaf

TEXT_BYTES_MAX: Final = 256 * 1024
NARRATIVE_CHARACTERS_MAX: Final = 2_000
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_FIRST_YEAR: Final = 2020
_OF_SEALED_BODIES: Final = frozenset({"recording-deposited", "recording-shredded"})
_NEVER_NARRATED: Final = frozenset(
    {"recording-shredded", "campaign-shredded", "controller-shredded"}
)


@dataclass(frozen=True)
class Event:
    """Something that happened, before it is sealed.

    Attributes:
        type: one of ``EVENT_CODES``.
        actor: who; ``system_actor`` for the service itself.
        controller_id: ``ctl_`` id whose affair it is.
        campaign_id, recording_id: what, when it is one campaign or one recording.
        purpose: code of the closed list, or None.
        narrative: free text, or None; always None for a recording that is gone.
        narrative_subject: the recording's leaf; required with a narrative about one recording, so
            that the words die with it.
        outcome: a code, or None.
        facts: ids, counts, codes and instants; nothing that names a person heard.
        commitment, body_sha256: 32 bytes each, of the sealed recording; for deposits and shreds.
    """

    type: str
    actor: Actor
    controller_id: str
    campaign_id: str | None = None
    recording_id: str | None = None
    purpose: str | None = None
    narrative: str | None = field(default=None, repr=False)
    narrative_subject: Subject | None = None
    outcome: str | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)
    commitment: bytes | None = None
    body_sha256: bytes | None = None

    def __post_init__(self) -> None:
        if self.type not in EVENT_CODES:
            raise ValueError(f"unknown event type {self.type!r}")
        ids.to_bits(self.controller_id, CONTROLLER)
        self._check_narrative()
        self._check_digests()

    def _check_narrative(self) -> None:
        subject = self.narrative_subject
        if self.narrative is None:
            if subject is not None:
                raise ValueError("a narrative subject without a narrative")
            return
        about = (self.controller_id, self.campaign_id or "", self.recording_id or "")
        wrong = self.type in _NEVER_NARRATED or (subject is None) != (self.recording_id is None)
        if subject is not None:
            named = (subject.controller_id, subject.campaign_id, subject.recording_id)
            wrong = wrong or named != about
        if wrong or len(self.narrative) > NARRATIVE_CHARACTERS_MAX:
            raise ValueError(f"{self.type}: this narrative would outlive what it is about")

    def _check_digests(self) -> None:
        given = [one for one in (self.commitment, self.body_sha256) if one is not None]
        allowed = self.type in _OF_SEALED_BODIES
        required = self.type == "recording-deposited"
        whole = len(given) == 2 and all(len(one) == DIGEST_BYTES for one in given)  # noqa: PLR2004
        if (given and not (allowed and whole)) or (required and not whole):
            raise ValueError(f"{self.type}: digests of a sealed recording, both or none")


def event_text(
    event: Event, entry_id: str, at: datetime, *, name: bytes, narrative: bytes | None
) -> bytes:
    """Return the canonical JSON of an event.

    Args:
        event: what happened.
        entry_id: ``ent_`` id.
        at: aware UTC, kept to the millisecond.
        name: commitment to the actor's name, 32 bytes.
        narrative: commitment to the free text, 32 bytes, or None without one.

    Raises:
        InvalidRequest: a fact is no JSON, the text is beyond 256 KiB, or text or name hold a
            character that a terminal would obey (JSON escapes the others in the text).
    """
    text = canonical.encode(
        {
            "v": LEAF_VERSION,
            "entry": entry_id,
            "type": event.type,
            "at": to_text(at),
            "controller": event.controller_id,
            "campaign": event.campaign_id,
            "recording": event.recording_id,
            "actor": _who(event.actor, name),
            "purpose": event.purpose,
            "outcome": event.outcome,
            "facts": event.facts,
            "narrative": None if narrative is None else narrative.hex(),
        }
    )
    shown = text.decode() + event.actor.subject
    if len(text) > TEXT_BYTES_MAX or _UNPRINTABLE.search(shown):
        raise InvalidRequest(what="event-text")
    return text


def _who(actor: Actor, name: bytes) -> Json:
    return {
        "id": actor.id,
        "subject": name.hex(),
        "kind": actor.kind,
        "roles": sorted(actor.roles),
        "company": actor.company,
    }


def leaf_of(event: Event, at: datetime, commitment: bytes) -> Leaf:
    """Return the leaf of an event whose text is committed to by ``commitment``."""
    return Leaf(
        type=event.type,
        day=at.astimezone(UTC).date(),
        controller_id=event.controller_id,
        commitment=commitment,
        key_commitment=event.commitment or ZEROS,
        body_sha256=event.body_sha256 or ZEROS,
    )


def month_of(at: datetime) -> int:
    """Return which leaf of the ledger's tree seals an entry: months since 2020-01, UTC."""
    utc = at.astimezone(UTC)
    return max(0, (utc.year - _FIRST_YEAR) * 12 + utc.month - 1)


def text_subject(ledger_controller_id: str, entry_id: str, month: int) -> Subject:
    """Return the subject under which an entry's text is sealed in the ledger's own tree."""
    return Subject(ledger_controller_id, "", entry_id, 0, month)


def decision(
    kind: str,
    actor: Actor,
    campaign_id: str | None,
    facts: Mapping[str, Json],
    *,
    reason: str | None = None,
) -> Event:
    """Return the entry of what somebody decided for their own controller, with their reason."""
    return Event(
        type=kind,
        actor=actor,
        controller_id=actor.controller_id,
        campaign_id=campaign_id,
        narrative=reason,
        facts=facts,
    )


def system_actor(controller_id: str, name: str) -> Actor:
    """Return the service itself as an actor.

    Args:
        controller_id: whose affair it acts in.
        name: which part of it ("sweep", "keys").
    """
    return Actor(
        id=ids.from_bits("act_", bytes(ids.ID_BYTES)),
        subject=f"system:{name}",
        kind="service",
        roles=frozenset(),
        controller_id=controller_id,
    )
