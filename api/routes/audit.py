"""The ledger as auditors and officers read it: pages of opened entries, and exports of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.pages import next_url
from api.schemas import Answer, Instant, Moment
from api.service import Service
from vault.access import PURPOSES, Actor
from vault.ledger.audit import PAGE_ROWS, PAGE_ROWS_MAX, AuditEntry, AuditQuery
from vault.ledger.audit_text import csv_head, csv_line, json_line

router = APIRouter(prefix="/v1/ledger", tags=["ledger"], route_class=JsonRoute)
_LINES_AT_ONCE: Final = 200
_READS: Final = ("campaign-not-found", "ledger-unavailable", "key-unavailable", "lease-lost")


def asked(
    *,
    campaign: Annotated[str | None, Query(max_length=40, description="Id or slug.")] = None,
    who: Annotated[
        str | None, Query(alias="actor", max_length=40, description="An ``act_`` id.")
    ] = None,
    purpose: Annotated[str | None, Query(max_length=40, description=", ".join(PURPOSES))] = None,
    kind: Annotated[
        str | None, Query(alias="type", max_length=40, description="As docs/ledger.md lists them.")
    ] = None,
    since: Annotated[Moment | None, Query(alias="from")] = None,
    until: Annotated[Moment | None, Query(alias="to", description="Excluded.")] = None,
) -> AuditQuery:
    """Read which entries are asked for."""
    return AuditQuery(
        campaign=campaign, actor_id=who, purpose=purpose, type=kind, since=since, until=until
    )


Asked = Annotated[AuditQuery, Depends(asked)]


class AuditActor(Answer):
    """Who did it: a pseudonym, and the issuer's name for them."""

    id: str
    subject: str
    kind: str
    roles: list[str]
    company: str


class AuditItem(Answer):
    """One entry. Once its month is forgotten only index, type and day are left."""

    entry_id: str
    index: int | None
    type: str
    access: Annotated[str | None, Field(description="play, download or export.")]
    at: Instant
    campaign_id: str | None
    recording_id: str | None
    actor: AuditActor | None
    purpose: str | None
    outcome: str | None
    reason: Annotated[str | None, Field(description="None once its recording is erased.")]
    delivered_s: Annotated[float | None, Field(description="Seconds really delivered.")]
    facts: dict[str, Any]
    state: Annotated[str, Field(description="open, forgotten, lost or damaged.")]


class AuditItems(Answer):
    """A page, newest first; ``next`` is the address of the following one."""

    items: list[AuditItem]
    next: str | None


@router.get(
    "/entries",
    summary="Read the ledger: who did what, when, for which purpose, and why",
    responses=problems(*_READS),
)
def entries(
    request: Request,
    query: Asked,
    *,
    limit: Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX)] = PAGE_ROWS,
    cursor: Annotated[str | None, Query(max_length=400)] = None,
    actor: Actor = allow("auditor", "dpo"),
) -> AuditItems:
    """Show one page of the caller's controller and campaigns; itself an entry of the ledger."""
    query = replace(query, limit=limit, cursor=cursor)
    page = request.app.state.service.audit.page(actor, query)
    return AuditItems(
        items=[AuditItem.model_validate(one.shown()) for one in page.items],
        next=next_url(request, "/v1/ledger/entries", page.next_cursor),
    )


@router.get(
    "/export",
    summary="Export entries of the ledger as JSON Lines or CSV",
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {
                "application/jsonl": {"schema": {"type": "string"}},
                "text/csv": {"schema": {"type": "string"}},
            }
        },
        **problems(*_READS),
    },
)
def export(
    request: Request,
    query: Asked,
    *,
    form: Annotated[Literal["jsonl", "csv"], Query(alias="format")] = "jsonl",
    actor: Actor = allow("auditor", "dpo"),
) -> StreamingResponse:
    """Stream every entry asked for, newest first. No cell of the CSV is a formula.

    The ``export`` entry is in the ledger before the first byte.
    """
    service: Service = request.app.state.service
    found = service.audit.export(actor, query, form=form)
    as_csv = form == "csv"
    lines = _joined(found, csv_line if as_csv else json_line, csv_head() if as_csv else "")
    return StreamingResponse(
        lines,
        media_type="text/csv; charset=utf-8" if as_csv else "application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="ledger.{form}"'},
    )


def _joined(found: Iterable[AuditEntry], spell: Callable[[Any], str], head: str) -> Iterator[bytes]:
    """Yield lines some hundred at a time: each piece costs a change of thread."""
    if head:
        yield head.encode()
    left = iter(found)
    while some := list(islice(left, _LINES_AT_ONCE)):
        yield "".join(spell(one.shown()) for one in some).encode()
