"""The incident kit: what an account touched between two instants, for the 24-hour notice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field

from api.callers import allow
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Answer, Instant, Moment, json_example
from api.schemas import Request as Body
from api.service import Service
from core import ids
from core.clock import to_text
from core.errors import InvalidRequest
from vault.access import Actor
from vault.incident import IncidentReport
from vault.incident_rows import IncidentQuery, TouchedListen, TouchedRecording
from vault.ledger.audit_text import safe_cell

router = APIRouter(prefix="/v1/incidents", tags=["incidents"], route_class=JsonRoute)
COLUMNS: Final = (
    "recording_id", "campaign", "campaign_id", "state", "acts", "seconds",
    "listen_id", "purpose", "granted_at", "ended_at", "listen_seconds", "entry_id",
)  # fmt: skip


class IncidentBody(Body):
    """Which account, by pseudonym or by its name at the issuer, and from when to when."""

    actor_id: Annotated[str | None, Field(default=None, max_length=40)]
    subject: Annotated[str | None, Field(default=None, max_length=255)]
    since: Annotated[Moment, Field(alias="from", strict=False)]
    until: Annotated[Moment, Field(alias="to", strict=False, description="Excluded.")]

    model_config: ConfigDict = json_example(  # type: ignore[misc]
        **{"subject": "zoe", "from": "2026-03-02T00:00:00Z", "to": "2026-03-03T00:00:00Z"}
    )


class IncidentListen(Answer):
    """One listen whose ticket was alive in that time."""

    id: str
    recording_id: str
    campaign_id: str
    purpose: str
    state: str
    granted_at: Instant
    ended_at: Instant
    delivered_s: float
    entry_id: str


class IncidentRecording(Answer):
    """One recording, and what the account did with it."""

    recording_id: str
    campaign_id: str
    campaign: str
    state: str
    acts: Annotated[list[str], Field(description="play, export, download, types of entries.")]
    delivered_s: float


class IncidentCounts(Answer):
    """What the notice says first; nobody heard is named."""

    persons: Annotated[int, Field(description="Different numbers that can still be opened.")]
    recordings_without_person: Annotated[int, Field(description="Each may be one person more.")]
    recordings: int
    listens: int
    campaigns: int
    delivered_s: float


class IncidentAnswer(Answer):
    """The report; itself an entry of the ledger."""

    actor_id: str
    since: Annotated[Instant, Field(serialization_alias="from")]
    until: Annotated[Instant, Field(serialization_alias="to")]
    made_at: Instant
    counts: IncidentCounts
    freezes: Annotated[list[str], Field(description="Freezes in force over the account.")]
    recordings: list[IncidentRecording]
    listens: list[IncidentListen]
    entry_id: str


@router.post(
    "/report",
    summary="List what an account touched between two instants",
    response_model=IncidentAnswer,
    responses={
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
        **problems("ledger-unavailable", "key-unavailable", "lease-lost", body=True),
    },
)
def report(
    asked: IncidentBody,
    request: Request,
    *,
    form: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    actor: Actor = allow("dpo", "auditor"),
) -> Any:
    """Return recordings, listens and counts; as CSV one line a listen, and no cell is a formula."""
    service: Service = request.app.state.service
    query = IncidentQuery(_account(service, asked), asked.since, asked.until)
    made = service.incidents.report(actor, query)
    if form == "json":
        return _shown(made)
    return Response(
        "".join(_lines(made)),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="incident.csv"'},
    )


def _account(service: Service, asked: IncidentBody) -> str:
    """Return the pseudonym of the account that is meant."""
    if (asked.actor_id is None) == (asked.subject is None):
        raise InvalidRequest(what="account")
    if asked.subject is not None:
        return service.ports.pseudonyms.actor_id(service.settings.oidc_issuer, asked.subject)
    if not ids.is_id(asked.actor_id or "", "act_"):
        raise InvalidRequest(what="account")
    return str(asked.actor_id)


def _shown(made: IncidentReport) -> IncidentAnswer:
    return IncidentAnswer(
        actor_id=made.query.account_id,
        since=to_text(made.query.since),
        until=to_text(made.query.until),
        made_at=to_text(made.made_at),
        counts=IncidentCounts(
            persons=made.persons,
            recordings_without_person=made.recordings_without_person,
            recordings=len(made.recordings),
            listens=len(made.listens),
            campaigns=made.campaign_count,
            delivered_s=made.delivered_ms / 1000,
        ),
        freezes=list(made.freezes),
        recordings=[_recording(one) for one in made.recordings],
        listens=[_listen(one) for one in made.listens],
        entry_id=made.entry_id,
    )


def _recording(one: TouchedRecording) -> IncidentRecording:
    return IncidentRecording(
        recording_id=one.recording_id,
        campaign_id=one.campaign_id,
        campaign=one.campaign,
        state=one.state,
        acts=sorted(one.acts),
        delivered_s=one.delivered_ms / 1000,
    )


def _listen(one: TouchedListen) -> IncidentListen:
    return IncidentListen(
        id=one.id,
        recording_id=one.recording_id,
        campaign_id=one.campaign_id,
        purpose=one.purpose,
        state=one.state,
        granted_at=to_text(one.granted_at),
        ended_at=to_text(one.ended_at),
        delivered_s=one.delivered_ms / 1000,
        entry_id=one.entry_id,
    )


def _lines(made: IncidentReport) -> Iterable[str]:
    """Yield one line a listen, and one for each recording that was not heard."""
    yield _line(COLUMNS)
    for one in made.recordings:
        heard = [listen for listen in made.listens if listen.recording_id == one.recording_id]
        acts, seconds = " ".join(sorted(one.acts)), one.delivered_ms / 1000
        about = (one.recording_id, one.campaign, one.campaign_id, one.state, acts, seconds)
        for listen in heard:
            yield _line(
                (
                    *about,
                    listen.id,
                    listen.purpose,
                    to_text(listen.granted_at),
                    to_text(listen.ended_at),
                    listen.delivered_ms / 1000,
                    listen.entry_id,
                )
            )
        if not heard:
            yield _line((*about, "", "", "", "", "", ""))


def _line(cells: Iterable[object]) -> str:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(
        [safe_cell(str(cell)) for cell in cells]
    )
    return out.getvalue()
