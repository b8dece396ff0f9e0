"""Objects that a restore found and nobody vouches for: listed, released, erased by the DPO."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Instant, Reason, json_example
from api.schemas import Request as Body
from vault.access import Actor

router = APIRouter(prefix="/v1/set-aside", tags=["set-aside"], route_class=JsonRoute)
_DECIDES: Final = (
    "reason-required",
    "ledger-unavailable",
    "key-unavailable",
    "lease-lost",
    "store-unavailable",
    "set-aside-not-found",
    "set-aside-conflict",
)


class DecisionBody(Body):
    """Why it is released or erased."""

    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        reason="Heard by the team that made the call",
    )


class SetAsideAnswer(Answer):
    """One object: what its header claims, and why it did not come back."""

    id: Annotated[str, Field(examples=["obj_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    object_key: str
    campaign_id: str | None
    recording_id: str | None
    why: str
    size_bytes: int
    found_at: Instant
    state: str
    decided_at: Instant | None
    decided_by: str | None


class SetAsideList(Answer):
    """What waits for a decision, oldest first, at most 200."""

    items: list[SetAsideAnswer]
    next: str | None = None


@router.get("", summary="List what a restore set aside", responses=problems())
def listed(request: Request, *, actor: Actor = allow("dpo")) -> SetAsideList:
    """Show the objects that have neither a row nor a deposit entry and wait for a decision."""
    found = request.app.state.service.set_asides.list(actor)
    return SetAsideList(items=[SetAsideAnswer.model_validate(one) for one in found])


@router.post(
    "/{object_id}/release",
    summary="Vouch for an object",
    responses=problems(*_DECIDES, body=True),
)
def release(
    object_id: str, asked: DecisionBody, request: Request, actor: Actor = allow("dpo", step_up=True)
) -> SetAsideAnswer:
    """Make it a recording again: it is opened and verified, and gets a deposit entry in your name.

    Do it before the restore is released: the sweep then ends what nobody decided.
    """
    done = request.app.state.service.set_asides.release(actor, object_id, asked.reason)
    return SetAsideAnswer.model_validate(done)


@router.post(
    "/{object_id}/erasure",
    summary="Erase an object",
    responses=problems(*_DECIDES, "hold-in-force", "destruction-unconfirmed", body=True),
)
def erase(
    object_id: str, asked: DecisionBody, request: Request, actor: Actor = allow("dpo", step_up=True)
) -> SetAsideAnswer:
    """Destroy the key that it is sealed under, if that is nobody else's, and delete it."""
    done = request.app.state.service.set_asides.erase(actor, object_id, asked.reason)
    return SetAsideAnswer.model_validate(done)
