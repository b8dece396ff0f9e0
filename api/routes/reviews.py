"""Reviews of reasons: a random share of past listens, for the officer to judge."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Instant, Reason, json_example
from api.schemas import Request as Body
from vault.access import Actor

router = APIRouter(prefix="/v1/reviews", tags=["reviews"], route_class=JsonRoute)
_NEEDS: Final = ("ledger-unavailable", "key-unavailable", "lease-lost")


class VerdictBody(Body):
    """Whether the reason holds, and why."""

    verdict: Literal["sound", "doubtful", "abusive"]
    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        verdict="doubtful", reason="No such complaint is known to us"
    )


class ReviewAnswer(Answer):
    """A drawn listen with what the listener said."""

    id: Annotated[str, Field(examples=["rvw_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    listen_id: str
    recording_id: str
    campaign_id: str
    actor_id: str
    purpose: str
    listened_at: Instant
    entry_id: str
    reason: Annotated[str | None, Field(description="Null once it died with the recording.")]
    verdict: str | None
    judged_at: Instant | None
    judged_by: str | None


class ReviewList(Answer):
    """Drawn listens, the oldest first."""

    items: list[ReviewAnswer]
    next: str | None = None


@router.get("", summary="List drawn listens", responses=problems(*_NEEDS))
def listed(request: Request, *, judged: bool = False, actor: Actor = allow("dpo")) -> ReviewList:
    """Show the drawn listens that wait for a verdict, or with ``judged=true`` the others."""
    found = request.app.state.service.reason_reviews.list(actor, judged=judged)
    return ReviewList(items=[ReviewAnswer.model_validate(one) for one in found])


@router.post(
    "/{review_id}",
    summary="Judge a past reason",
    responses=problems(
        *_NEEDS, "review-not-found", "review-conflict", "reason-required", body=True
    ),
)
def judge(
    review_id: str, asked: VerdictBody, request: Request, actor: Actor = allow("dpo")
) -> ReviewAnswer:
    """Keep a verdict, once; nobody judges a listen of their own."""
    judged = request.app.state.service.reason_reviews.judge(
        actor, review_id, verdict=asked.verdict, reason=asked.reason
    )
    return ReviewAnswer.model_validate(judged)
