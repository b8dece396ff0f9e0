"""Searches by person: what is looked for travels in the body, never in an address."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.pages import next_url
from api.routes.recordings import RecordingAnswer
from api.schemas import Answer, Moment, json_example
from api.schemas import Request as Body
from vault.access import PURPOSES, Actor
from vault.scan import Person
from vault.search import SearchRequest
from vault.search_job import SearchJob

router = APIRouter(prefix="/v1/searches", tags=["searches"], route_class=JsonRoute)
_NEEDS: Final = ("busy", "ledger-unavailable", "key-unavailable", "lease-lost")
_LIMIT_MAX: Final = 200

Word = Annotated[str | None, Field(default=None, min_length=1, max_length=200)]


class SearchBody(Body):
    """Whom to look for, where, and why. Without ``campaign`` the whole vault is searched."""

    number: Word
    agent: Word
    reference: Word
    external_id: Word
    campaign: Annotated[str | None, Field(default=None, max_length=40)]
    since: Annotated[Moment | None, Field(default=None, alias="from", strict=False)]
    until: Annotated[Moment | None, Field(default=None, alias="to", strict=False)]
    purpose: Annotated[str, Field(max_length=40, description=", ".join(PURPOSES))]
    reason: Annotated[str, Field(max_length=2_000)]

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        **{
            "number": "+33 1 99 00 12 34",
            "campaign": "winter-sale",
            "from": "2026-03-01T00:00:00Z",
            "to": "2026-04-01T00:00:00Z",
            "purpose": "quality-control",
            "reason": "Monthly quality review of this team",
        }
    )

    def asked(self) -> SearchRequest:
        """Return the request as the flow takes it."""
        return SearchRequest(
            person=Person(self.number, self.agent, self.reference, self.external_id),
            purpose=self.purpose,
            reason=self.reason,
            campaign=self.campaign,
            since=self.since,
            until=self.until,
        )


class SearchAnswer(Answer):
    """One page of hits; ``next`` wants the same body again."""

    items: list[RecordingAnswer]
    next: str | None
    rows_scanned: int
    entry_id: Annotated[str, Field(description="The ledger entry of this search.")]
    filters_salt: Annotated[
        str, Field(description="64 hex digits; shows what the entry was about, kept nowhere else.")
    ]


class SearchProgress(Answer):
    """A whole-vault search: running, done or failed."""

    id: str
    state: str
    rows_total: int
    rows_done: int
    recording_ids: list[str]


@router.post(
    "",
    summary="Search by person",
    response_model=SearchAnswer,
    responses={
        202: {"model": SearchProgress, "description": "A whole-vault search has begun."},
        **problems(
            *_NEEDS,
            "campaign-not-found",
            "listen-denied",
            "purpose-unknown",
            "reason-required",
            "rate-limited",
            body=True,
        ),
    },
)
def search(
    wanted: SearchBody,
    request: Request,
    limit: Annotated[int, Query(ge=1, le=_LIMIT_MAX)] = 50,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    actor: Actor = allow(),
) -> Any:
    """Search one campaign and dates at once, or the whole vault as a job (an officer only).

    Quality managers and officers may; whoever else asks is refused, and the refusal recorded.
    """
    service = request.app.state.service
    service.search_rate.check(actor.id)
    asked = wanted.asked()
    if asked.campaign is None:
        job = _progress(service.search_jobs.start(actor, asked))
        return JSONResponse(job.model_dump(), HTTPStatus.ACCEPTED)
    page = service.searches.search(actor, asked, limit=limit, cursor=cursor)
    return SearchAnswer(
        items=[RecordingAnswer.model_validate(one) for one in page.hits],
        next=next_url(request, "/v1/searches", page.next_cursor),
        rows_scanned=page.rows_scanned,
        entry_id=page.entry_id,
        filters_salt=page.filters_salt.hex(),
    )


@router.get(
    "/{search_id}",
    summary="How far a whole-vault search is",
    responses=problems("search-not-found"),
)
def progress(search_id: str, request: Request, actor: Actor = allow("dpo")) -> SearchProgress:
    """Show the caller's own search."""
    return _progress(request.app.state.service.search_jobs.get(actor, search_id))


def _progress(job: SearchJob) -> SearchProgress:
    return SearchProgress(
        id=job.id,
        state=job.state,
        rows_total=job.rows_total,
        rows_done=job.rows_done,
        recording_ids=list(job.recording_ids),
    )
