"""Exports: recordings that leave the vault, approved by a second person, sealed to one receiver."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Field
from starlette.responses import Response as PlainResponse

from api.callers import allow
from api.errors import Busy
from api.export_response import ExportResponse
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Instant, Purpose, Reason, json_example
from api.schemas import Request as Body
from api.service import Service
from vault.access import Actor
from vault.export import Exports
from vault.export_access import RECORDINGS_MAX
from vault.export_plan import WantedExport
from vault.export_rows import Export
from vault.export_seal import recipient_fingerprint
from vault.open_export import OpenExport

router = APIRouter(prefix="/v1/exports", tags=["exports"], route_class=JsonRoute)
AT_ONCE: Final = 2
_READS: Final = ("ledger-unavailable", "key-unavailable", "lease-lost")
_EXAMPLE: Final = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"


class ExportBody(Body):
    """What shall leave, why, and to whom it is sealed."""

    recording_ids: Annotated[list[str], Field(min_length=1, max_length=RECORDINGS_MAX)]
    recipient: Annotated[str, Field(max_length=100, description="The receiver's age public key.")]
    purpose: Purpose
    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        recording_ids=["rec_3v7k0q2m5w9x1c4z6b8n0s2d4f"],
        recipient=_EXAMPLE,
        purpose="data-subject-request",
        reason="Copy for the data subject, request of 2 March",
    )


class ExportAnswer(Answer):
    """An export: planned until a second person has agreed and it was fetched whole."""

    id: Annotated[str, Field(examples=["exp_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    kind: Annotated[str, Field(description="export, or download: of one recording.")]
    state: Annotated[str, Field(description="planned, running, done")]
    actor_id: str
    purpose: str
    recording_ids: list[str]
    recipient: str
    recipient_sha256: Annotated[str, Field(description="As the ledger names the receiver.")]
    clear_bytes: int
    approval_id: str | None
    attempts: int
    created_at: Instant
    expires_at: Instant
    began_at: Instant | None
    ended_at: Instant | None
    bytes_sent: int
    requested_entry_id: str
    entry_id: str | None
    file_url: str


class ExportList(Answer):
    """The newest exports in the caller's scope."""

    items: list[ExportAnswer]
    next: str | None = None


@router.post(
    "",
    status_code=201,
    summary="Ask for an export",
    responses=problems(
        *_READS,
        "recording-not-found",
        "recording-erased",
        "listen-denied",
        "reason-required",
        "purpose-unknown",
        "recipient-invalid",
        "export-conflict",
        "step-up-required",
        "account-suspended",
        "rate-limited",
        body=True,
    ),
)
def planned(
    asked: ExportBody,
    request: Request,
    response: Response,
    actor: Actor = allow("quality-manager", "dpo", step_up=True),
) -> ExportAnswer:
    """Plan an export and ask a second person to agree (`approval_id`); nothing leaves yet.

    Whoever may not hear each recording for this purpose may not export it.
    """
    request.app.state.service.listen_rate.check(actor.id)
    wanted = WantedExport(
        recording_ids=tuple(asked.recording_ids),
        recipient=asked.recipient,
        purpose=asked.purpose,
        reason=asked.reason,
    )
    made = request.app.state.service.exports.plan(actor, wanted)
    response.headers["Location"] = f"/v1/exports/{made.id}"
    return _shown(request, made)


@router.get(
    "",
    summary="List exports",
    responses=problems("account-suspended"),
)
def listed(
    request: Request, actor: Actor = allow("quality-manager", "dpo", "auditor")
) -> ExportList:
    """Show one's own newest exports; who supervises every campaign sees everybody's."""
    found = request.app.state.service.exports.newest(actor)
    return ExportList(items=[_shown(request, one) for one in found])


@router.get(
    "/{export_id}",
    summary="Show an export",
    responses=problems("export-not-found", "account-suspended"),
)
def shown(
    export_id: str,
    request: Request,
    actor: Actor = allow("quality-manager", "dpo", "auditor"),
) -> ExportAnswer:
    """Show one export of the caller's scope."""
    return _shown(request, request.app.state.service.exports.get(actor, export_id))


@router.get(
    "/{export_id}/file",
    summary="Fetch an approved export",
    response_class=PlainResponse,
    responses={
        200: {
            "description": "The sealed file.",
            "content": {
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
            },
        },
        **problems(
            *_READS,
            "export-not-found",
            "export-conflict",
            "approval-required",
            "recording-not-found",
            "recording-erased",
            "listen-denied",
            "step-up-required",
            "account-suspended",
            "busy",
            "integrity-failure",
            "store-unavailable",
        ),
    },
)
async def file(
    export_id: str,
    request: Request,
    actor: Actor = allow("quality-manager", "dpo", step_up=True),
) -> PlainResponse:
    """Send one age file (X25519) that only its receiver opens: a tar of audio and metadata.

    Made as it is sent: no length is announced, and a cut shows as a missing end.
    """
    slots: asyncio.Semaphore = request.app.state.export_slots
    if slots.locked():
        raise Busy
    exports: Exports = request.app.state.service.exports
    begun = await to_thread.run_sync(exports.begin, actor, export_id)
    return ExportResponse(OpenExport(exports, actor, begun), slots)


def _shown(request: Request, row: Export) -> ExportAnswer:
    service: Service = request.app.state.service
    return ExportAnswer.model_validate(
        {
            **vars(row),
            "recording_ids": list(row.recording_ids),
            "recipient_sha256": recipient_fingerprint(row.recipient),
            "file_url": f"{service.settings.public_url}/v1/exports/{row.id}/file",
        }
    )
