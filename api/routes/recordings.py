"""Recordings as lists show them, and the correction of what was said about a call (Art. 16).

Lists filter by clear columns. Agent and contact are opened for the rows of one page, the contact
always masked; each list and each look leaves an entry in the ledger before it is answered.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import Field

from api.callers import allow
from api.limits import JsonRoute, json_body
from api.openapi_text import problems
from api.pages import next_url
from api.schemas import Answer, Instant, Moment
from vault.access import Actor
from vault.catalogue import PAGE_ROWS, PAGE_ROWS_MAX, STATES, ListQuery

router = APIRouter(prefix="/v1/recordings", tags=["recordings"], route_class=JsonRoute)
_READS: Final = ("ledger-unavailable", "key-unavailable", "lease-lost")
_METADATA_EXAMPLE: Final = {
    "started_at": "2026-03-02T09:30:00Z",
    "direction": "outbound",
    "agent": "a.martin",
    "contact_number": "+33 1 99 00 12 34",
    "consent": "given",
    "notice": "played",
    "free": {"queue": "retention"},
}


class RecordingAnswer(Answer):
    """One recording; instants in UTC, the start of the call to the minute."""

    id: Annotated[str, Field(examples=["rec_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    campaign_id: str
    campaign_slug: str
    controller_id: str
    controller_name: str
    processor: str
    state: str
    started_at: Instant
    stored_at: Instant
    duration_ms: int
    duration_estimated: bool
    clear_bytes: int
    codec: str
    media_type: str
    browser_playable: bool
    direction: str
    oddities: list[str]
    agent: str | None
    contact: Annotated[str | None, Field(description="Masked.")]
    consent: str
    notice: str
    metadata_version: int
    deadline: Instant | None
    held: bool
    restricted: bool
    deposit_entry_id: str
    inaccessible_at: Instant | None
    shredded_at: Instant | None


class RecordingList(Answer):
    """A page, newest first; ``next`` is the address of the following one."""

    items: list[RecordingAnswer]
    next: str | None


@router.get(
    "",
    summary="List recordings by clear columns",
    responses=problems(*_READS, "campaign-not-found"),
)
def listed(
    request: Request,
    *,
    campaign: Annotated[str | None, Query(max_length=40)] = None,
    since: Annotated[Moment | None, Query(alias="from")] = None,
    until: Annotated[Moment | None, Query(alias="to")] = None,
    min_duration_s: Annotated[int | None, Query(ge=0, le=864_000)] = None,
    direction: Annotated[str | None, Query(max_length=10)] = None,
    codec: Annotated[str | None, Query(max_length=24)] = None,
    state: Annotated[str, Query(max_length=10, description=", ".join(STATES))] = "stored",
    hold: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX)] = PAGE_ROWS,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    actor: Actor = allow("quality-manager", "dpo", "auditor"),
) -> RecordingList:
    """Show one page of the caller's recordings; ``to`` is excluded."""
    query = ListQuery(
        campaign=campaign,
        since=since,
        until=until,
        min_duration_s=min_duration_s,
        direction=direction,
        codec=codec,
        state=state,
        hold=hold,
        limit=limit,
        cursor=cursor,
    )
    page = request.app.state.service.catalogue.list(actor, query)
    return RecordingList(
        items=[RecordingAnswer.model_validate(one) for one in page.items],
        next=next_url(request, "/v1/recordings", page.next_cursor),
    )


@router.get(
    "/{recording_id}",
    summary="Show a recording",
    responses=problems(*_READS, "recording-not-found", "recording-erased"),
)
def shown(
    recording_id: str,
    request: Request,
    actor: Actor = allow("quality-manager", "dpo", "auditor"),
) -> RecordingAnswer:
    """Show one recording of the caller's scope."""
    found = request.app.state.service.catalogue.get(actor, recording_id)
    return RecordingAnswer.model_validate(found)


@router.put(
    "/{recording_id}/metadata",
    summary="Correct what was said about a call",
    responses=problems(
        *_READS,
        "recording-not-found",
        "recording-erased",
        "metadata-invalid",
        "retention-floor",
        "started-in-future",
        body=True,
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object"},
                    "examples": {"correction": {"value": _METADATA_EXAMPLE}},
                }
            },
        }
    },
)
def correct(
    recording_id: str,
    request: Request,
    raw: bytes = json_body(),
    actor: Actor = allow("dpo"),
) -> RecordingAnswer:
    """Replace the metadata as a new version; the stored object keeps its first one."""
    corrected = request.app.state.service.catalogue.correct_metadata(actor, recording_id, raw)
    return RecordingAnswer.model_validate(corrected)


@router.get(
    "/{recording_id}/receipt",
    summary="Get the signed receipt of a deposit",
    response_class=PlainTextResponse,
    responses=problems(*_READS, "recording-not-found"),
)
def receipt(
    recording_id: str,
    request: Request,
    actor: Actor = allow("auditor", "dpo", "intake"),
) -> Any:
    """Return a C2SP signed note with the inclusion proof of the deposit's ledger entry."""
    return PlainTextResponse(request.app.state.service.receipts.deposit(actor, recording_id))
