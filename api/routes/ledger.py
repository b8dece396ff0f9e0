"""The ledger from outside: checkpoint and tiles as C2SP lays them out, and proofs of one entry.

Whoever may see them can verify the whole ledger with tools that others wrote; leaves say no more
than a day, a type and salted commitments. The sealed texts are never served.

Source: C2SP tlog-tiles, tlog-checkpoint, tlog-proof.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from api.callers import allow
from api.errors import EntryNotFound, RouteNotFound
from api.limits import JsonRoute
from api.openapi_text import problems
from api.service import Service
from core.errors import InvalidRequest
from vault.access import Actor
from vault.errors import CampaignNotFound, ObjectMissing
from vault.ledger.tiles import CHECKPOINT_KEY
from vault.ports import ObjectStore

router = APIRouter(prefix="/v1/ledger", tags=["ledger"], route_class=JsonRoute)
_WRITTEN_ONCE: Final = "private, max-age=31536000, immutable"
_CHANGES: Final = "no-store"  # the checkpoint; partial tiles go once their full one is there
_TILE: Final = re.compile(
    r"(?:entries|[0-9]|[1-5][0-9]|6[0-3])(?:/x[0-9]{3}){0,6}/[0-9]{3}(?:\.p/[0-9]{1,3})?"
)


@router.get(
    "/checkpoint",
    summary="The newest signed checkpoint",
    response_class=PlainTextResponse,
    responses=problems("route-not-found", "store-unavailable"),
)
def checkpoint(
    request: Request, actor: Actor = allow("auditor", "dpo", "intake")
) -> PlainTextResponse:
    """Return the C2SP checkpoint that covers every ordered entry."""
    del actor
    found = _file(request.app.state.service.ports.ledger_store, CHECKPOINT_KEY)
    return PlainTextResponse(found.decode("utf-8"), headers={"Cache-Control": _CHANGES})


@router.get(
    "/tile/{path:path}",
    summary="A tile of the tree, or a bundle of its leaves",
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}},
        **problems("route-not-found", "store-unavailable"),
    },
)
def tile(path: str, request: Request, actor: Actor = allow("auditor", "dpo", "intake")) -> Response:
    """Return the bytes of ``tile/<level>/<index>`` or ``tile/entries/<index>``."""
    del actor
    if not _TILE.fullmatch(path):
        raise RouteNotFound
    found = _file(request.app.state.service.ports.ledger_store, f"tile/{path}")
    caching = _CHANGES if ".p/" in path else _WRITTEN_ONCE
    return Response(
        found, media_type="application/octet-stream", headers={"Cache-Control": caching}
    )


@router.get(
    "/proof",
    summary="The inclusion proof of an entry",
    response_class=PlainTextResponse,
    responses=problems("entry-not-found", "ledger-unavailable"),
)
def proof(
    request: Request,
    entry: Annotated[str, Query(max_length=40, description="The ``ent_`` id.")],
    actor: Actor = allow("auditor", "dpo", "intake"),
) -> PlainTextResponse:
    """Return a C2SP ``tlog-proof`` under a published checkpoint, once the entry is ordered."""
    service: Service = request.app.state.service
    _check_scope(service, actor, entry)
    return PlainTextResponse(service.ledger.proof(entry))


def _check_scope(service: Service, actor: Actor, entry_id: str) -> None:
    """Find the entry in the actor's controller and campaigns; a depositor sees deposits only."""
    try:
        row = service.ledger.row(entry_id)
        if row.campaign_id is not None:
            service.campaigns.get(actor, row.campaign_id)
    except (InvalidRequest, CampaignNotFound) as err:
        raise EntryNotFound from err
    supervises = bool(actor.roles & {"auditor", "dpo"})
    if row.controller_id != actor.controller_id:
        raise EntryNotFound
    if not supervises and row.type != "recording-deposited":
        raise EntryNotFound


def _file(store: ObjectStore, key: str) -> bytes:
    try:
        return store.read(key, 0, store.size(key))
    except ObjectMissing as err:
        raise RouteNotFound from err
