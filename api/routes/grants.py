"""Grants: who may hear or supervise what, for which purposes, how long and how often."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.named_account import AccountId, Subject, account_of
from api.openapi_text import problems
from api.schemas import Answer, Instant, Moment, Purpose, Reason, json_example
from api.schemas import Request as Body
from vault.access import Actor
from vault.grant_view import STATES
from vault.grants import LISTENS_MAX, GrantRequest

router = APIRouter(prefix="/v1/grants", tags=["grants"], route_class=JsonRoute)
_WRITES: Final = ("ledger-unavailable", "key-unavailable", "lease-lost", "step-up-required")


class GrantBody(Body):
    """A right for one account, named by ``account`` or ``subject``."""

    account: AccountId
    subject: Subject
    company: Annotated[
        str, Field(max_length=200, description="As the token says it; empty is internal staff.")
    ] = ""
    role: Literal["quality-manager", "dpo", "auditor"]
    campaign: Annotated[str, Field(max_length=40, description="Id, slug, or `*` for every one.")]
    purposes: Annotated[list[Purpose], Field(max_length=20)]
    since: Annotated[Moment | None, Field(default=None, alias="from", strict=False)]
    until: Annotated[Moment | None, Field(default=None, strict=False, description="Excluded.")]
    listens_max: Annotated[int | None, Field(default=None, ge=1, le=LISTENS_MAX)]
    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        **{
            "subject": "j.moreau@callhub.example",
            "company": "callhub",
            "role": "quality-manager",
            "campaign": "winter-sale",
            "purposes": ["quality-control"],
            "from": "2026-03-02T00:00:00Z",
            "until": "2046-06-01T00:00:00Z",
            "listens_max": 200,
            "reason": "Quality reviews of the spring campaign",
        }
    )


class ReasonBody(Body):
    """Why."""

    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        reason="Still reviews this team every month"
    )


class GrantAnswer(Answer):
    """A grant and how it stands at this moment; why it was given is in its ledger entry."""

    id: Annotated[str, Field(examples=["grt_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    account: str
    company: str
    role: str
    campaign_id: str | None
    campaign: Annotated[str, Field(description="Slug, or `*`.")]
    purposes: list[str]
    from_at: Instant
    until_at: Instant | None
    listens_max: int | None
    listens_used: int
    state: Annotated[str, Field(description=", ".join(STATES))]
    given_at: Instant
    given_by: str
    given_entry_id: str
    approval_id: str | None
    review_due_at: Annotated[
        Instant | None, Field(description="Unconfirmed by then, the grant lapses.")
    ]
    confirmed_at: Instant | None
    confirmed_by: str | None
    lapsed_at: Instant | None
    revoked_at: Instant | None
    revoked_by: str | None


class GrantList(Answer):
    """Grants of the caller's scope, newest first."""

    items: list[GrantAnswer]
    next: str | None = None


@router.post(
    "",
    status_code=201,
    summary="Give a grant",
    responses=problems(
        *_WRITES,
        "approval-required",
        "campaign-not-found",
        "grant-conflict",
        "listen-denied",
        "reason-required",
        body=True,
    ),
)
def give(
    asked: GrantBody, request: Request, actor: Actor = allow("admin", step_up=True)
) -> GrantAnswer:
    """Give a right within what the account's tokens say.

    An officer's or auditor's grant, and another role than the account has, want a second person:
    403 `approval-required`; repeat the same request once it is approved.
    """
    service = request.app.state.service
    wanted = GrantRequest(
        account=account_of(service, asked.account, asked.subject),
        role=asked.role,
        campaign_ref=asked.campaign,
        purposes=tuple(asked.purposes),
        reason=asked.reason,
        company=asked.company,
        from_at=asked.since,
        until_at=asked.until,
        listens_max=asked.listens_max,
    )
    return GrantAnswer.model_validate(service.grants.give(actor, wanted))


@router.get("", summary="List grants", responses=problems())
def listed(
    request: Request,
    account: Annotated[str, Query(max_length=40)] = "",
    state: Annotated[str, Query(max_length=20, json_schema_extra={"enum": ["", *STATES]})] = "",
    actor: Actor = allow("admin", "dpo", "auditor"),
) -> GrantList:
    """Show grants, perhaps those of one account, or in one state."""
    found = request.app.state.service.grants.list(actor, account=account, state=state)
    return GrantList(items=[GrantAnswer.model_validate(one) for one in found])


@router.get("/{grant_id}", summary="Show a grant", responses=problems("grant-not-found"))
def shown(
    grant_id: str, request: Request, actor: Actor = allow("admin", "dpo", "auditor")
) -> GrantAnswer:
    """Show one grant."""
    return GrantAnswer.model_validate(request.app.state.service.grants.get(actor, grant_id))


@router.post(
    "/{grant_id}/confirmation",
    summary="Confirm a grant at a review",
    responses=problems(*_WRITES, "grant-not-found", "grant-conflict", "reason-required", body=True),
)
def confirm(
    grant_id: str,
    asked: ReasonBody,
    request: Request,
    actor: Actor = allow("admin", "dpo", step_up=True),
) -> GrantAnswer:
    """Say that a grant is still right; neither its holder nor its giver may."""
    service = request.app.state.service
    return GrantAnswer.model_validate(service.grants.confirm(actor, grant_id, reason=asked.reason))


@router.delete(
    "/{grant_id}", summary="Revoke a grant", responses=problems(*_WRITES, "grant-not-found")
)
def revoke(
    grant_id: str, request: Request, actor: Actor = allow("admin", "dpo", step_up=True)
) -> GrantAnswer:
    """End a grant and the listens under it; streams stop within two seconds."""
    return GrantAnswer.model_validate(request.app.state.service.grants.revoke(actor, grant_id))
