"""What a supervisor, a scraper and a verifier ask without credentials: no id, no person in it."""

from __future__ import annotations

from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from starlette.responses import Response

from api import metrics
from api.limits import JsonRoute
from api.openapi_text import problems
from api.schemas import Alive, Version
from api.version import program_version

router = APIRouter(tags=["health"], route_class=JsonRoute)


@router.get("/healthz", summary="Is the process alive?")
async def alive() -> Alive:
    """Answer as long as the event loop turns; touches nothing else."""
    return Alive(status="ok")


@router.get(
    "/readyz", summary="May requests be sent here?", responses=problems("not-ready", public=True)
)
async def ready(request: Request) -> Alive:
    """Run every check of ``api.readiness``; 503 names those that do not pass."""
    state = request.app.state
    await to_thread.run_sync(state.service.readiness.check, limiter=state.lanes.health)
    return Alive(status="ready")


@router.get(
    "/metrics",
    summary="Figures in Prometheus' text format",
    response_class=PlainTextResponse,
)
async def figures(request: Request) -> Response:
    """Show counts and times by route template, method, status and code."""
    state = request.app.state
    text = await to_thread.run_sync(state.service.metrics.text, limiter=state.lanes.health)
    return Response(text, media_type=metrics.MEDIA_TYPE)


@router.get("/v1/version", summary="Which version answers")
async def version() -> Version:
    """Name the program's version and the version of its routes."""
    return Version(service="oubliette", version=program_version(), api="v1")


@router.get(
    "/.well-known/oubliette-vkey",
    summary="The key that verifies receipts, certificates and checkpoints",
    response_class=PlainTextResponse,
)
def verifier_key(request: Request) -> Any:
    """Return the C2SP verifier keys of this vault, one a line: the one that signs now is first."""
    vkeys = request.app.state.service.ports.signer.vkeys
    return PlainTextResponse("".join(f"{one}\n" for one in vkeys))
