"""Approvals: a second person's word on one exact request."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.named_account import AccountId, Subject, account_of
from api.openapi_text import problems
from api.pages import next_url
from api.schemas import Answer, Instant, Reason, json_example
from api.schemas import Request as Body
from vault.access import Actor
from vault.approval import KINDS
from vault.approval_list import PAGE_ROWS, PAGE_ROWS_MAX

router = APIRouter(prefix="/v1/approvals", tags=["approvals"], route_class=JsonRoute)
_WRITES: Final = ("ledger-unavailable", "key-unavailable", "lease-lost", "step-up-required")
State = Literal["asked", "approved", "refused", "used", "expired"]


class DecisionBody(Body):
    """Agree or refuse, and why; an account that is named is compared with the request's."""

    verdict: Literal["approve", "refuse"]
    account: AccountId
    subject: Subject
    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        verdict="approve", reason="Checked against the ticket of the client"
    )


class ApprovalAnswer(Answer):
    """What somebody else asks to do, exactly."""

    id: Annotated[str, Field(examples=["apr_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    kind: Annotated[str, Field(description=", ".join(KINDS))]
    campaign_id: str | None
    request: dict[str, Any]
    request_sha256: Annotated[
        str, Field(description="Binds the approval to this request, 64 hex digits.")
    ]
    state: str
    requested_at: Instant
    requested_by: str
    expires_at: Instant
    decided_at: Instant | None
    decided_by: str | None
    used_at: Instant | None
    reason: Annotated[str | None, Field(description="The requester's words; null in lists.")]


class ApprovalList(Answer):
    """One page of approvals in one state, newest first."""

    items: list[ApprovalAnswer]
    next: str | None = None


@router.get("", summary="List approvals", responses=problems())
def listed(
    request: Request,
    *,
    state: Annotated[State, Query()] = "asked",
    limit: Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX)] = PAGE_ROWS,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    actor: Actor = allow("admin", "dpo", "auditor", "quality-manager"),
) -> ApprovalList:
    """Show what waits for a second person, one's own requests included, a page at a time."""
    pages = request.app.state.service.approval_pages
    page = pages.page(actor, state, limit=limit, cursor=cursor)
    return ApprovalList(
        items=[ApprovalAnswer.model_validate(one) for one in page.items],
        next=next_url(request, "/v1/approvals", page.next_cursor),
    )


@router.get(
    "/{approval_id}",
    summary="Show an approval",
    responses=problems("approval-not-found", "ledger-unavailable", "key-unavailable", "lease-lost"),
)
def shown(
    approval_id: str,
    request: Request,
    actor: Actor = allow("admin", "dpo", "auditor", "quality-manager"),
) -> ApprovalAnswer:
    """Show one with the requester's reason, while that can be opened."""
    found = request.app.state.service.approvals.get(actor, approval_id)
    return ApprovalAnswer.model_validate(found)


@router.post(
    "/{approval_id}/decision",
    summary="Approve or refuse",
    responses=problems(
        *_WRITES, "approval-not-found", "approval-conflict", "reason-required", body=True
    ),
)
def decide(
    approval_id: str,
    asked: DecisionBody,
    request: Request,
    actor: Actor = allow("admin", "dpo", step_up=True),
) -> ApprovalAnswer:
    """Decide somebody else's request within 24 hours; an approval is good once.

    Who approves a right must name the person by ``subject``, which the vault compares: a pseudonym
    tells nobody whom it stands for.
    """
    service = request.app.state.service
    account = asked.account
    if asked.subject is not None:
        account = account_of(service, asked.account, asked.subject)
    decided = service.approvals.decide(
        actor,
        approval_id,
        approve=asked.verdict == "approve",
        reason=asked.reason,
        account=account,
    )
    return ApprovalAnswer.model_validate(decided)
