"""Legal holds and restrictions of processing: placed, listed, lifted by the DPO."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Instant, Reason, json_example
from api.schemas import Request as Body
from retention.hold import HoldRequest
from vault.access import Actor

router = APIRouter(prefix="/v1/holds", tags=["holds"], route_class=JsonRoute)
_WRITES: Final = (
    "reason-required",
    "ledger-unavailable",
    "key-unavailable",
    "lease-lost",
    "step-up-required",
)


def _day(value: object) -> object:
    return value.isoformat() if isinstance(value, date) else value


Day = Annotated[
    str,
    BeforeValidator(_day),
    Field(pattern=r"^\d{4}-\d{2}-\d{2}$", json_schema_extra={"format": "date"}),
]


class HoldBody(Body):
    """What to protect, and why; exactly the one member that the scope names."""

    kind: Literal["hold", "restriction"]
    scope: Literal["recording", "person", "campaign", "vault"]
    reason: Reason
    recording_id: Annotated[str | None, Field(max_length=40)] = None
    campaign: Annotated[str | None, Field(max_length=40, description="Id or slug.")] = None
    number: Annotated[
        str | None, Field(max_length=40, description="Resolved at once; never kept.")
    ] = None
    review_on: Annotated[date | None, Field(strict=False)] = None

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        kind="hold",
        scope="campaign",
        campaign="winter-sale",
        reason="Complaint under examination by counsel",
    )


class HoldAnswer(Answer):
    """One hold or restriction; who, what and when, never the number or the reason."""

    id: Annotated[str, Field(examples=["hld_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    kind: str
    scope: str
    campaign_id: str | None
    recording_ids: list[str]
    placed_at: Instant
    placed_by: str
    placed_entry_id: str
    lifted_at: Instant | None
    lifted_by: str | None
    review_on: Day | None
    from_restore: bool


class HoldList(Answer):
    """Holds and restrictions of the caller's scope, newest first."""

    items: list[HoldAnswer]
    next: str | None = None


@router.post(
    "",
    status_code=201,
    summary="Place a hold or a restriction",
    responses=problems(
        *_WRITES,
        "recording-not-found",
        "recording-erased",
        "campaign-not-found",
        "campaign-conflict",
        "listen-denied",
        "rate-limited",
        body=True,
    ),
)
def place(
    asked: HoldBody, request: Request, actor: Actor = allow("dpo", step_up=True)
) -> HoldAnswer:
    """Protect recordings from expiry and erasure; a restriction stops listening too."""
    if asked.number is not None:  # opens what every search opens, so it is one
        request.app.state.service.search_rate.check(actor.id)
    wanted = HoldRequest(
        kind=asked.kind,
        scope=asked.scope,
        reason=asked.reason,
        recording_id=asked.recording_id,
        campaign_ref=asked.campaign,
        number=asked.number,
        review_on=asked.review_on,
    )
    return HoldAnswer.model_validate(request.app.state.service.holds.place(actor, wanted))


@router.get("", summary="List holds and restrictions", responses=problems())
def listed(
    request: Request,
    *,
    lifted: bool = False,
    actor: Actor = allow("dpo", "auditor"),
) -> HoldList:
    """Show those in force, and with ``lifted=true`` those of the past too."""
    found = request.app.state.service.holds.list(actor, lifted=lifted)
    return HoldList(items=[HoldAnswer.model_validate(one) for one in found])


@router.delete(
    "/{hold_id}",
    summary="Lift a hold or a restriction",
    responses=problems(*_WRITES[1:], "hold-not-found", "listen-denied", "approval-required"),
)
def lift(hold_id: str, request: Request, actor: Actor = allow("dpo", step_up=True)) -> HoldAnswer:
    """End it; again, nothing happens. Lifting a restore's stop lets the sweep run again.

    A second person must agree: 403 `approval-required`, then the same request again.
    """
    return HoldAnswer.model_validate(request.app.state.service.holds.lift(actor, hold_id))
