"""Campaigns: made by an admin as drafts, given a policy by the DPO, opened, closed."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Request
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Country, Instant, Purpose, Slug, json_example
from api.schemas import Request as Body
from retention.policy import LEGAL_BASES, PRESETS, PolicyRequest
from vault.access import Actor

router = APIRouter(prefix="/v1/campaigns", tags=["campaigns"], route_class=JsonRoute)
_WRITES: Final = ("campaign-not-found", "ledger-unavailable", "key-unavailable", "lease-lost")


class CampaignBody(Body):
    """A new campaign."""

    slug: Slug
    name: Annotated[str, Field(min_length=1, max_length=200)]

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        slug="winter-sale", name="Winter sale, outbound"
    )


class CampaignAnswer(Answer):
    """A campaign; ``draft``, ``open``, ``closed``, ``shredding`` or ``shredded``."""

    id: Annotated[str, Field(examples=["cmp_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    slug: Slug
    name: str
    state: str
    processor: str
    listen_purposes: list[str]
    countries: list[str]
    sensitive_purposes: list[str]
    created_at: Instant
    opened_at: Instant | None
    closed_at: Instant | None


class CampaignList(Answer):
    """Every campaign in the caller's scope, newest first."""

    items: list[CampaignAnswer]
    next: str | None = None


class PolicyBody(Body):
    """How long, on what ground, for which purposes, where, by whom."""

    retention: Annotated[
        str | None, Field(max_length=20, description="ISO 8601, P1D to P10Y; or a preset alone.")
    ] = None
    preset: Annotated[
        str | None, Field(max_length=40, json_schema_extra={"enum": [*PRESETS, None]})
    ] = None
    legal_basis: Annotated[
        str, Field(max_length=40, json_schema_extra={"enum": sorted(LEGAL_BASES)})
    ]
    balancing_text: Annotated[str, Field(max_length=4_000)] = ""
    justification: Annotated[str, Field(max_length=4_000)] = ""
    listen_purposes: Annotated[list[Purpose], Field(max_length=20)]
    countries: Annotated[list[Country], Field(max_length=60)]
    processor: Annotated[str, Field(max_length=200)] = ""
    sensitive_purposes: Annotated[
        list[Purpose],
        Field(
            default_factory=list,
            max_length=20,
            description="Those for which a listen wants a second person.",
        ),
    ]

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        retention="P6M",
        legal_basis="legitimate-interests",
        balancing_text="Quality reviews of outbound calls; six months let a quarter be compared.",
        listen_purposes=["quality-control", "training", "complaint"],
        countries=["FR"],
        processor="Callhub SAS",
    )


class PolicyAnswer(Answer):
    """The policy in force; every version before it is kept."""

    campaign_id: str
    version: int
    preset: str | None
    retention: str
    legal_basis: str
    balancing_text: str
    justification: str
    set_at: Instant
    set_by: str
    listen_purposes: list[str]
    countries: list[str]
    processor: str
    sensitive_purposes: list[str]


class SimulationAnswer(Answer):
    """What a retention would make due at once."""

    stored: int
    due_now: int
    would_be_due: int
    protected: int


@router.post(
    "",
    status_code=201,
    summary="Make a campaign as a draft",
    responses=problems(*_WRITES, "campaign-conflict", "indexes-exhausted", body=True),
)
def create(asked: CampaignBody, request: Request, actor: Actor = allow("admin")) -> CampaignAnswer:
    """Make a campaign that takes no deposits until it has a policy and is opened."""
    made = request.app.state.service.campaigns.create(actor, slug=asked.slug, name=asked.name)
    return CampaignAnswer.model_validate(made)


@router.get("", summary="List campaigns", responses=problems())
def listed(
    request: Request, actor: Actor = allow("admin", "dpo", "quality-manager", "auditor")
) -> CampaignList:
    """Show every campaign in the caller's scope."""
    found = request.app.state.service.campaigns.list(actor)
    return CampaignList(items=[CampaignAnswer.model_validate(one) for one in found])


@router.get("/{campaign}", summary="Show a campaign", responses=problems("campaign-not-found"))
def shown(
    campaign: str,
    request: Request,
    actor: Actor = allow("admin", "dpo", "quality-manager", "auditor"),
) -> CampaignAnswer:
    """Show one campaign by id or slug."""
    return CampaignAnswer.model_validate(request.app.state.service.campaigns.get(actor, campaign))


@router.put(
    "/{campaign}/policy",
    summary="Set the retention policy",
    responses=problems(
        *_WRITES, "policy-invalid", "retention-floor", "campaign-conflict", body=True
    ),
)
def put_policy(
    campaign: str, asked: PolicyBody, request: Request, actor: Actor = allow("dpo")
) -> PolicyAnswer:
    """Put a policy in force for every recording of the campaign, those that are there included."""
    wanted = asked.model_dump()
    wanted["listen_purposes"] = tuple(asked.listen_purposes)
    wanted["countries"] = tuple(asked.countries)
    wanted["sensitive_purposes"] = tuple(asked.sensitive_purposes)
    policy = request.app.state.service.policies.put(actor, campaign, PolicyRequest(**wanted))
    return PolicyAnswer.model_validate(policy)


@router.get(
    "/{campaign}/policy",
    summary="Show the retention policy",
    responses=problems("campaign-not-found"),
)
def get_policy(
    campaign: str, request: Request, actor: Actor = allow("dpo", "auditor", "admin")
) -> PolicyAnswer | None:
    """Show the policy in force; null while there is none."""
    policy = request.app.state.service.policies.get(actor, campaign)
    return None if policy is None else PolicyAnswer.model_validate(policy)


@router.get(
    "/{campaign}/policy/simulation",
    summary="See what another retention would make due",
    responses=problems("campaign-not-found", "policy-invalid"),
)
def simulate(
    campaign: str, retention: str, request: Request, actor: Actor = allow("dpo")
) -> SimulationAnswer:
    """Count what a retention (ISO 8601) would make due at once; changes nothing."""
    found = request.app.state.service.policies.simulate(actor, campaign, retention)
    return SimulationAnswer.model_validate(found)


@router.post(
    "/{campaign}/open",
    summary="Let a campaign take deposits",
    responses=problems(*_WRITES, "campaign-conflict"),
)
def open_campaign(
    campaign: str, request: Request, actor: Actor = allow("admin", "dpo")
) -> CampaignAnswer:
    """Open a draft that has a policy; again, nothing happens."""
    return CampaignAnswer.model_validate(request.app.state.service.campaigns.open(actor, campaign))


@router.post(
    "/{campaign}/close",
    summary="Refuse further deposits",
    responses=problems(*_WRITES, "campaign-conflict"),
)
def close_campaign(
    campaign: str, request: Request, actor: Actor = allow("admin", "dpo")
) -> CampaignAnswer:
    """Close an open campaign; what it holds stays and ends as its policy says."""
    return CampaignAnswer.model_validate(request.app.state.service.campaigns.close(actor, campaign))
