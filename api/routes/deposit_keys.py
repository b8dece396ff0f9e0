"""Credentials of telephony platforms: deposit keys they can keep, addresses for one upload.

Both are good for deposits into one campaign alone and can never listen. A secret is shown once.
"""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Instant, json_example
from api.schemas import Request as Body
from vault.access import Actor

router = APIRouter(prefix="/v1/campaigns", tags=["deposit keys"], route_class=JsonRoute)
_WRITES: Final = ("campaign-not-found", "ledger-unavailable", "key-unavailable", "lease-lost")


class DepositKeyBody(Body):
    """What a deposit key is for, in words for people."""

    label: Annotated[str, Field(min_length=1, max_length=80)]

    model_config: ConfigDict = json_example(label="pbx-lyon-1")  # type: ignore[misc]


class DepositKeyAnswer(Answer):
    """A deposit key as lists show it."""

    id: str
    campaign_id: str
    label: str
    created_at: Instant
    used_at: Instant | None = None
    revoked_at: Instant | None = None


class NewDepositKeyAnswer(DepositKeyAnswer):
    """A deposit key and its secret, which is shown this once."""

    secret: Annotated[str, Field(description="Bearer token, or password of Basic credentials.")]


class DepositKeyList(Answer):
    """Every deposit key of a campaign, newest first."""

    items: list[DepositKeyAnswer]
    next: str | None = None


class UploadUrlBody(Body):
    """Which call an upload address is for, and how long it is good."""

    external_id: Annotated[str, Field(min_length=1, max_length=200)]
    lifetime_s: Annotated[int, Field(ge=60, le=86_400)] = 3_600

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        external_id="call-2026-03-02-0001", lifetime_s=3_600
    )


class UploadUrlAnswer(Answer):
    """An address that takes one recording by PUT, without further credentials."""

    id: str
    url: str
    expires_at: Instant


@router.post(
    "/{campaign}/deposit-keys",
    status_code=201,
    summary="Make a deposit key",
    responses=problems(*_WRITES, "step-up-required", body=True),
)
def issue_key(
    campaign: str,
    asked: DepositKeyBody,
    request: Request,
    actor: Actor = allow("admin", step_up=True),
) -> NewDepositKeyAnswer:
    """Make a credential that a telephony platform can keep."""
    issued = request.app.state.service.deposit_keys.issue(actor, campaign, asked.label)
    return NewDepositKeyAnswer.model_validate(issued)


@router.get(
    "/{campaign}/deposit-keys",
    summary="List deposit keys",
    responses=problems("campaign-not-found"),
)
def list_keys(campaign: str, request: Request, actor: Actor = allow("admin")) -> DepositKeyList:
    """Show a campaign's deposit keys, revoked ones too, without their secrets."""
    found = request.app.state.service.deposit_keys.list(actor, campaign)
    return DepositKeyList(items=[DepositKeyAnswer.model_validate(one) for one in found])


@router.delete(
    "/{campaign}/deposit-keys/{key_id}",
    status_code=204,
    summary="Revoke a deposit key or an upload address",
    responses=problems(*_WRITES, "deposit-key-not-found", "step-up-required"),
)
def revoke_key(
    campaign: str, key_id: str, request: Request, actor: Actor = allow("admin", step_up=True)
) -> Response:
    """End a credential for good; again, nothing happens."""
    request.app.state.service.deposit_keys.revoke(actor, campaign, key_id)
    return Response(status_code=204)


@router.post(
    "/{campaign}/upload-urls",
    status_code=201,
    summary="Make an upload address for one call",
    responses=problems(*_WRITES, "metadata-invalid", body=True),
)
def issue_url(
    campaign: str, asked: UploadUrlBody, request: Request, actor: Actor = allow("admin")
) -> UploadUrlAnswer:
    """Make an address for platforms that can add neither headers nor credentials."""
    service = request.app.state.service
    issued = service.deposit_keys.issue_url(actor, campaign, asked.external_id, asked.lifetime_s)
    where = f"/v1/campaigns/{issued.campaign_slug}/recordings/{quote(issued.external_id, safe='')}"
    url = f"{service.settings.public_url}{where}?token={issued.token}"
    return UploadUrlAnswer(id=issued.id, url=url, expires_at=issued.expires_at)
