"""Freezes: an account, a grant, a campaign or everything stopped at once, for an incident."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.named_account import AccountId, Subject, account_of
from api.openapi_text import problems
from api.schemas import Answer, Instant, Reason, json_example
from api.schemas import Request as Body
from vault.access import Actor
from vault.freeze import FreezeRequest

router = APIRouter(prefix="/v1/freezes", tags=["freezes"], route_class=JsonRoute)
_WRITES: Final = ("listen-denied", "ledger-unavailable", "key-unavailable", "lease-lost")


class FreezeBody(Body):
    """What to stop, and why; exactly the one member that the scope names."""

    scope: Literal["account", "grant", "campaign", "everything"]
    account: AccountId
    subject: Subject
    grant: Annotated[str | None, Field(default=None, max_length=40)]
    campaign: Annotated[str | None, Field(default=None, max_length=40, description="Id or slug.")]
    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        scope="campaign", campaign="winter-sale", reason="Leak suspected, under examination"
    )


class FreezeAnswer(Answer):
    """A freeze; why it was set is in its ledger entry."""

    id: Annotated[str, Field(examples=["frz_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    scope: str
    actor_id: str | None
    grant_id: str | None
    campaign_id: str | None
    set_at: Instant
    set_by: str
    set_entry_id: str
    lifted_at: Instant | None
    lifted_by: str | None


class FreezeList(Answer):
    """Freezes of the caller's scope, newest first."""

    items: list[FreezeAnswer]
    next: str | None = None


@router.post(
    "",
    status_code=201,
    summary="Freeze an account, a grant, a campaign or everything",
    responses=problems(
        *_WRITES, "campaign-not-found", "grant-not-found", "reason-required", body=True
    ),
)
def place(
    asked: FreezeBody, request: Request, actor: Actor = allow("admin", "dpo")
) -> FreezeAnswer:
    """Stop it at once; running streams end within two seconds."""
    service = request.app.state.service
    account = asked.account
    if asked.subject is not None:
        account = account_of(service, asked.account, asked.subject)
    wanted = FreezeRequest(
        scope=asked.scope,
        reason=asked.reason,
        account=account,
        grant=asked.grant,
        campaign_ref=asked.campaign,
    )
    return FreezeAnswer.model_validate(service.freezes.set(actor, wanted))


@router.get("", summary="List freezes", responses=problems())
def listed(
    request: Request, *, lifted: bool = False, actor: Actor = allow("admin", "dpo", "auditor")
) -> FreezeList:
    """Show those in force, and with ``lifted=true`` those of the past too."""
    found = request.app.state.service.freezes.list(actor, lifted=lifted)
    return FreezeList(items=[FreezeAnswer.model_validate(one) for one in found])


@router.delete(
    "/{freeze_id}", summary="Lift a freeze", responses=problems(*_WRITES, "freeze-not-found")
)
def lift(freeze_id: str, request: Request, actor: Actor = allow("admin", "dpo")) -> FreezeAnswer:
    """Let it go on; listens that ended stay ended. Again, nothing happens."""
    return FreezeAnswer.model_validate(request.app.state.service.freezes.lift(actor, freeze_id))
