"""Listens: granted against a reason, ended early, and shown to those who supervise."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.routes.listen_audio import cookie_name
from api.schemas import Answer, Instant, json_example
from api.schemas import Request as Body
from core.clock import to_text
from vault.access import PURPOSES, Actor
from vault.listen_history import ListenView
from vault.ticket import GrantedListen

router = APIRouter(prefix="/v1", tags=["listens"], route_class=JsonRoute)
_GRANT: Final = problems(
    "recording-not-found",
    "recording-erased",
    "listen-denied",
    "reason-required",
    "purpose-unknown",
    "approval-required",
    "rate-limited",
    "ledger-unavailable",
    "key-unavailable",
    "lease-lost",
    body=True,
)


class ListenRequest(Body):
    """Why a recording is to be heard."""

    purpose: Annotated[str, Field(max_length=40, description=", ".join(PURPOSES))]
    reason: Annotated[
        str, Field(max_length=2_000, description="10 to 500 characters, at least two words.")
    ]

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        purpose="quality-control", reason="Monthly quality review of this team"
    )


class ListenAnswer(Answer):
    """A granted listen; the address works until it expires, for this caller alone."""

    id: Annotated[str, Field(examples=["lis_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    recording_id: str
    audio_url: Annotated[str, Field(description="Holds the ticket: never store it.")]
    expires_at: Instant
    entry_id: Annotated[str, Field(description="The ledger entry that holds the reason.")]
    leaf_hash: Annotated[str, Field(description="Hash of the entry's leaf, 64 hex digits.")]


class PastListen(Answer):
    """Who listened, for what, and how much was really delivered."""

    id: str
    recording_id: str
    actor_id: str
    purpose: str
    reason: str | None
    state: str
    granted_at: Instant
    ended_at: Instant | None
    delivered_s: float
    estimated: bool
    entry_id: str
    closing_entry_id: str | None


class PastListens(Answer):
    """Every listen of a recording, newest first."""

    items: list[PastListen]


@router.post(
    "/recordings/{recording_id}/listens",
    status_code=201,
    summary="Ask to hear a recording, with a purpose and a reason",
    responses=_GRANT,
)
def grant(
    recording_id: str,
    asked: ListenRequest,
    request: Request,
    response: Response,
    actor: Actor = allow(),
) -> ListenAnswer:
    """Record who, what and why in the ledger, then hand out a ticket.

    Quality managers and officers may; whoever else asks is refused, and the refusal recorded. A
    purpose that the campaign calls sensitive wants a second person: 403 `approval-required`, then
    the same request again.

    A request that a browser makes (``Sec-Fetch-Mode`` tells) also gets a cookie; its ticket then
    opens nothing without it.
    """
    service = request.app.state.service
    service.listen_rate.check(actor.id)
    granted = service.listens.grant(
        actor,
        recording_id,
        purpose=asked.purpose,
        reason=asked.reason,
        bind_cookie=_from_browser(request),
    )
    if granted.cookie:
        _set_cookie(response, granted)
    response.headers["Cache-Control"] = "no-store"
    return ListenAnswer(
        id=granted.id,
        recording_id=granted.recording_id,
        audio_url=f"{service.settings.public_url}/v1/listens/{granted.id}/audio"
        f"?ticket={granted.ticket}",
        expires_at=to_text(granted.expires_at),
        entry_id=granted.entry_id,
        leaf_hash=granted.leaf_hash.hex(),
    )


@router.delete(
    "/listens/{listen_id}",
    status_code=204,
    summary="End one's own listen",
    responses=problems("listen-not-found", "ledger-unavailable"),
)
def end(
    listen_id: str, request: Request, actor: Actor = allow("quality-manager", "dpo")
) -> Response:
    """End the ticket and its streams; the ledger gets the seconds delivered. Repeats are fine."""
    request.app.state.service.listen_accounts.end(actor, listen_id)
    return Response(status_code=204)


@router.get(
    "/recordings/{recording_id}/listens",
    summary="Who listened to a recording",
    responses=problems("recording-not-found", "ledger-unavailable", "key-unavailable"),
)
def history(
    recording_id: str, request: Request, actor: Actor = allow("dpo", "auditor")
) -> PastListens:
    """Show every listen; reasons die with the recording, who and when do not."""
    found = request.app.state.service.listen_history.of_recording(actor, recording_id)
    return PastListens(items=[_shown(one) for one in found])


@router.get(
    "/recordings/{recording_id}/listens/receipts",
    summary="Who listened to a recording, as a file that anyone can check",
    response_class=PlainTextResponse,
    responses=problems("recording-not-found", "ledger-unavailable", "key-unavailable"),
)
def receipts(
    recording_id: str, request: Request, actor: Actor = allow("dpo", "auditor")
) -> PlainTextResponse:
    """Return a signed file with every entry, what opens its leaf, and its inclusion proof.

    Listeners stand as pseudonym and roles unless the vault's policy names them; itself an entry.
    """
    return PlainTextResponse(
        request.app.state.service.listen_receipts.of_recording(actor, recording_id)
    )


def _from_browser(request: Request) -> bool:
    """Tell whether a browser asks: it says how it fetches, or speaks by its session alone."""
    return "sec-fetch-mode" in request.headers or "authorization" not in request.headers


def _set_cookie(response: Response, granted: GrantedListen) -> None:
    response.set_cookie(
        cookie_name(granted.id),
        granted.cookie,
        secure=True,
        httponly=True,
        samesite="strict",
        path="/",
        expires=granted.expires_at,
    )


def _shown(one: ListenView) -> PastListen:
    members: dict[str, Any] = {
        name: getattr(one, name)
        for name in PastListen.model_fields
        if name not in {"granted_at", "ended_at", "delivered_s"}
    }
    return PastListen(
        **members,
        granted_at=to_text(one.granted_at),
        ended_at=None if one.ended_at is None else to_text(one.ended_at),
        delivered_s=one.delivered_ms / 1000,
    )
