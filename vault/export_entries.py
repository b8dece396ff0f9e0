"""What the ledger says of an export, and what a second person is shown of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from core import canonical
from core.canonical import Json
from vault.access import Actor
from vault.errors import ListenDenied, RecordingNotFound
from vault.export_rows import Export
from vault.export_seal import recipient_fingerprint
from vault.grant import Permit
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.listen_store import Heard


def event_of(
    row: Export,
    actor: Actor,
    outcome: str,
    *,
    heard: Sequence[Heard] | None,
    reason: str | None,
    facts: Mapping[str, Json] | None,
) -> Event:
    """Return one entry of an export's life: requested, started, delivered or cut.

    Args:
        row: the export.
        actor: who acts.
        outcome: what happened.
        heard: its recordings; of a single one, the entry is that recording's.
        reason: why, sealed under the single recording's leaf.
        facts: more facts.
    """
    only = heard[0].recording if heard and len(heard) == 1 else None
    named: dict[str, Json] = {
        "export": row.id,
        "recipient_sha256": recipient_fingerprint(row.recipient),
        "recordings": list(row.recording_ids),
        "attempt": row.attempts + (outcome == "started"),
    }
    return Event(
        type=row.kind,
        actor=actor,
        controller_id=row.controller_id,
        campaign_id=None if only is None else only.campaign_id,
        recording_id=None if only is None else only.id,
        purpose=row.purpose,
        narrative=reason,
        narrative_subject=only.subject if only is not None and reason else None,
        outcome=outcome,
        facts=named | dict(facts or {}),
    )


def counted(permits: Sequence[Permit]) -> dict[str, Json]:
    """Return the grants whose caps an export counted against, once for each recording."""
    grants: list[Json] = [one.grant_id for one in permits if one.grant_id is not None]
    return {"grants": grants} if grants else {}


def record_refusal(
    ledger: Ledger, actor: Actor, purpose: str, refusal: RecordingNotFound | ListenDenied
) -> None:
    """Record that an export was refused.

    Raises:
        LedgerUnavailable, DatabaseUnavailable.
    """
    ledger.append_alone(
        Event(
            type="listen-denied",
            actor=actor,
            controller_id=actor.controller_id,
            purpose=purpose,
            outcome=str(refusal.facts.get("why", "not-found")),
            facts={"wanted": "export"},
        )
    )


def request_of(row: Export) -> dict[str, Json]:
    """Return what the second person is shown, and what their word is bound to."""
    return {
        "export": row.id,
        "kind": row.kind,
        "recordings": len(row.recording_ids),
        "recordings_sha256": canonical.digest(list(row.recording_ids)).hex(),
        "recipient_sha256": recipient_fingerprint(row.recipient),
        "clear_bytes": row.clear_bytes,
        "purpose": row.purpose,
    }
