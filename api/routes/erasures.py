"""Erasures: planned with what goes and what is protected, executed against the plan's digest.

Execution takes the first step at once (nobody hears the recordings from then on) and does the rest
in the background; the certificate is there when a checkpoint covers the destruction.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import LIMITS, JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Digest, Instant, Reason, json_example
from api.schemas import Request as Body
from core.errors import InvalidRequest
from retention.target import LEGAL_GROUNDS, ErasureRequest, Target
from vault.access import Actor

router = APIRouter(prefix="/v1/erasures", tags=["erasures"], route_class=JsonRoute)
_WRITES: Final = ("ledger-unavailable", "key-unavailable", "lease-lost", "step-up-required")
_STATES: Final = ("planned", "approved", "running", "waiting-key-provider", "done", "refused")


class TargetBody(Body):
    """What to erase: a kind, and the one member it names."""

    kind: Literal["recording", "list", "person", "campaign"]
    recording_id: Annotated[str | None, Field(max_length=40)] = None
    recording_ids: Annotated[list[str] | None, Field(max_length=LIMITS.erasure_list_max)] = None
    number: Annotated[str | None, Field(max_length=40)] = None
    campaign: Annotated[str | None, Field(max_length=40, description="Id or slug.")] = None


class ErasureBody(Body):
    """A target, its legal ground, and why."""

    target: TargetBody
    legal_ground: Annotated[
        str, Field(max_length=40, json_schema_extra={"enum": list(LEGAL_GROUNDS)})
    ]
    reason: Reason

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        target={"kind": "person", "number": "+33 1 99 00 12 34"},
        legal_ground="objection",
        reason="Objection received by letter on 2 March",
    )


class ExecutionBody(Body):
    """The digest of the plan as it was shown."""

    plan_digest: Digest

    model_config: ConfigDict = json_example(plan_digest="0" * 64)  # type: ignore[misc]


class ItemAnswer(Answer):
    """One recording of a plan; ``refusal`` names what protects it."""

    recording_id: str
    refusal: str | None


class ErasureAnswer(Answer):
    """An erasure and how far it is; at most 1 000 of its items."""

    id: Annotated[str, Field(examples=["era_3v7k0q2m5w9x1c4z6b8n0s2d4f"])]
    kind: str
    state: Annotated[str, Field(description=", ".join(_STATES))]
    campaign_id: str | None
    legal_ground: str
    plan_digest: Digest
    planned_at: Instant
    planned_by: str
    planned_count: int
    refused_count: int
    items: list[ItemAnswer]
    approved_at: Instant | None
    approved_by: str | None
    inaccessible_at: Instant | None
    destroyed_at: Instant | None
    done_at: Instant | None
    provider_uris: list[str]
    limits: list[str]
    braked: bool
    rerun_of: str | None
    rerun_state: str | None
    certificate_id: str | None
    certified_at: Instant | None


class ErasureList(Answer):
    """Erasures of the caller's scope in one state, oldest first, without their items."""

    items: list[ErasureAnswer]
    next: str | None = None


@router.post(
    "",
    status_code=201,
    summary="Plan an erasure",
    responses=problems(
        *_WRITES,
        "recording-not-found",
        "recording-erased",
        "campaign-not-found",
        "rate-limited",
        "reason-required",
        body=True,
    ),
)
def plan(
    asked: ErasureBody, request: Request, actor: Actor = allow("dpo", step_up=True)
) -> ErasureAnswer:
    """Freeze what would be erased and what is protected; nothing changes."""
    if asked.target.number is not None:  # opens what every search opens, so it is one
        request.app.state.service.search_rate.check(actor.id)
    wanted = ErasureRequest(_target(asked.target), asked.legal_ground, asked.reason)
    return ErasureAnswer.model_validate(request.app.state.service.erase.plan(actor, wanted))


@router.get("", summary="List erasures in a state", responses=problems())
def listed(
    request: Request,
    state: Annotated[
        Literal["planned", "approved", "running", "waiting-key-provider", "done", "refused"],
        Query(),
    ] = "planned",
    actor: Actor = allow("dpo", "auditor"),
) -> ErasureList:
    """Show erasures; one that the sweep's brake stopped is ``planned`` and ``braked``."""
    found = request.app.state.service.erase.list(actor, state)
    return ErasureList(items=[ErasureAnswer.model_validate(one) for one in found])


@router.post(
    "/{erasure_id}/execution",
    status_code=202,
    summary="Execute a planned erasure",
    responses=problems(
        *_WRITES,
        "erasure-not-found",
        "erasure-conflict",
        "plan-changed",
        "hold-in-force",
        "restriction-in-force",
        "retention-floor",
        "uploads-in-progress",
        "approval-required",
        body=True,
    ),
)
def execute(
    erasure_id: str,
    asked: ExecutionBody,
    request: Request,
    actor: Actor = allow("dpo", step_up=True),
) -> ErasureAnswer:
    """Approve the plan and make its recordings inaccessible; destruction follows by itself.

    A campaign as a whole, and more recordings than FOUR_EYES_ABOVE, want a second person: 403
    `approval-required`; repeat the same request once it is approved.
    """
    service = request.app.state.service
    approved = service.erase.execute(actor, erasure_id, asked.plan_digest)
    service.finish_soon(erasure_id)
    return ErasureAnswer.model_validate(approved)


@router.get("/{erasure_id}", summary="Show an erasure", responses=problems("erasure-not-found"))
def shown(
    erasure_id: str, request: Request, actor: Actor = allow("dpo", "auditor")
) -> ErasureAnswer:
    """Show how far an erasure is."""
    return ErasureAnswer.model_validate(request.app.state.service.erase.get(actor, erasure_id))


@router.get(
    "/{erasure_id}/certificate",
    summary="Get the signed certificate",
    response_class=PlainTextResponse,
    responses=problems("erasure-not-found", "erasure-conflict", "certificate-pending"),
)
def certificate(
    erasure_id: str, request: Request, actor: Actor = allow("dpo", "auditor")
) -> PlainTextResponse:
    """Return a file that anyone can check offline with the verifier key."""
    return PlainTextResponse(request.app.state.service.erase.certificate(actor, erasure_id))


def _target(asked: TargetBody) -> Target:
    given = asked.model_dump(exclude_none=True, exclude={"kind"})
    made = {
        "recording": lambda: Target.recording(given.pop("recording_id")),
        "list": lambda: Target.recordings(tuple(given.pop("recording_ids"))),
        "person": lambda: Target.person(given.pop("number")),
        "campaign": lambda: Target.campaign(given.pop("campaign")),
    }
    try:
        target = made[asked.kind]()
    except KeyError as err:
        raise InvalidRequest(what="erasure-target") from err
    if given:
        raise InvalidRequest(what="erasure-target")
    return target
