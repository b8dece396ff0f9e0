"""Accounts as reviewers see them, their suspension, and the quarterly review of grants."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.routes.grants import ReasonBody
from api.schemas import Answer, Instant
from vault.access import Actor

router = APIRouter(prefix="/v1", tags=["accounts"], route_class=JsonRoute)
_WRITES: Final = ("ledger-unavailable", "key-unavailable", "lease-lost", "step-up-required")


class AccountAnswer(Answer):
    """One account: a pseudonym, and what its newest token said."""

    id: Annotated[str, Field(examples=["act_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    kind: Annotated[str, Field(description="person, or service for a machine.")]
    company: str
    roles: list[str]
    campaigns: Annotated[list[str] | None, Field(description="Slugs; null is every campaign.")]
    first_seen_at: Instant
    last_seen_at: Instant
    suspended_at: Instant | None
    suspended_why: Annotated[str | None, Field(description="dormant or decided.")]
    frozen: bool
    grants_in_force: int
    sessions_at_once: Annotated[
        int, Field(description="Most log-ins that overlapped within 30 days; above 1, look.")
    ]


class AccountList(Answer):
    """Accounts of the controller, those seen last first."""

    items: list[AccountAnswer]
    next: str | None = None
    admins_count: Annotated[int, Field(description="Accounts with the role admin, not suspended.")]


class AccountReviewAnswer(Answer):
    """A review of grants: each is confirmed, or lapses when it is over."""

    id: Annotated[str, Field(examples=["arv_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    quarter: Annotated[str, Field(examples=["2026-Q1"])]
    begun_at: Instant
    due_at: Instant
    closed_at: Instant | None
    grants_count: int
    open_count: Annotated[int, Field(description="Still waiting for a word.")]
    confirmed_count: int | None
    lapsed_count: int | None


class AccountReviewList(Answer):
    """Reviews, newest first."""

    items: list[AccountReviewAnswer]
    next: str | None = None


@router.get("/accounts", summary="List accounts", responses=problems())
def listed(request: Request, actor: Actor = allow("admin", "dpo", "auditor")) -> AccountList:
    """Show every account that has been here, and how many are admins."""
    views = request.app.state.service.account_views
    return AccountList(
        items=[AccountAnswer.model_validate(one) for one in views.list(actor)],
        admins_count=views.admins(actor.controller_id),
    )


@router.post(
    "/accounts/{account_id}/suspension",
    summary="Suspend an account",
    responses=problems(*_WRITES, "account-not-found", "reason-required", body=True),
)
def suspend(
    account_id: str,
    asked: ReasonBody,
    request: Request,
    actor: Actor = allow("admin", "dpo", step_up=True),
) -> AccountAnswer:
    """Stop an account until it is resumed; its open listens end."""
    service = request.app.state.service
    service.account_views.get(actor, account_id)
    service.accounts.suspend(actor, account_id, reason=asked.reason)
    return AccountAnswer.model_validate(service.account_views.get(actor, account_id))


@router.delete(
    "/accounts/{account_id}/suspension",
    summary="Let a suspended account act again",
    responses=problems(*_WRITES, "account-not-found"),
)
def resume(
    account_id: str, request: Request, actor: Actor = allow("admin", "dpo", step_up=True)
) -> AccountAnswer:
    """End a suspension, whether somebody or ninety silent days caused it."""
    service = request.app.state.service
    service.account_views.get(actor, account_id)
    service.accounts.resume(actor, account_id)
    return AccountAnswer.model_validate(service.account_views.get(actor, account_id))


@router.get("/account-reviews", summary="List account reviews", responses=problems())
def reviews(request: Request, actor: Actor = allow("admin", "dpo", "auditor")) -> AccountReviewList:
    """Show the quarterly reviews and how far each is."""
    found = request.app.state.service.account_reviews.list(actor)
    return AccountReviewList(items=[AccountReviewAnswer.model_validate(one) for one in found])


@router.post(
    "/account-reviews",
    status_code=201,
    summary="Begin this quarter's review now",
    responses=problems(*_WRITES, "review-conflict"),
)
def begin_review(
    request: Request, actor: Actor = allow("admin", "dpo", step_up=True)
) -> AccountReviewAnswer:
    """Ask for a word on every grant in force; it begins by itself when a quarter does."""
    begun = request.app.state.service.account_reviews.begin(actor)
    return AccountReviewAnswer.model_validate(begun)
