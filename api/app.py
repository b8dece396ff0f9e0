"""The application: FastAPI for JSON, Starlette routes for bytes, one envelope around both.

Every answer that is not a success is a problem document, also those that the frameworks make on
their own (404, 405, malformed bodies).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

import anyio.to_thread
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from api.console import routes as console
from api.envelope import Envelope, note_fault, note_problem
from api.errors import InternalFailure, MethodNotAllowed, RouteNotFound
from api.lanes import REQUEST_THREADS, Lanes
from api.openapi import install_openapi
from api.problems import problem_response
from api.roles import TAKES_REQUESTS
from api.routes import (
    accounts,
    approvals,
    audit,
    campaigns,
    deposit_keys,
    deposits,
    erasures,
    exports,
    freezes,
    grants,
    health,
    holds,
    incidents,
    ledger,
    listen_audio,
    listens,
    recordings,
    reviews,
    searches,
    set_aside,
)
from api.service import Service
from core.errors import InvalidRequest, OublietteError
from core.scope import for_all_controllers

ROUTERS: Final = (
    health.router,
    campaigns.router,
    deposit_keys.router,
    recordings.router,
    searches.router,
    listens.router,
    holds.router,
    set_aside.router,
    erasures.router,
    exports.router,
    grants.router,
    approvals.router,
    freezes.router,
    accounts.router,
    reviews.router,
    ledger.router,
    audit.router,
    incidents.router,
)
# pages and files of the console, beside the API and outside its document
PAGE_ROUTES: Final[tuple[Route, ...]] = console.ROUTES
BYTE_ROUTES: Final[tuple[Route, ...]] = (*deposits.ROUTES, *listen_audio.ROUTES)
_WHERE_MAX: Final = 20


class ByteRoute(Route):
    """A Starlette route that tells the log its template, as FastAPI's do."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as usual, and leave the route behind."""
        match, found = super().matches(scope)
        if match is not Match.NONE:
            found["route"] = self
        return match, found


def create_app(service: Service) -> Envelope:
    """Return the ASGI application of a service, everything wrapped."""
    return Envelope(
        build_api(service),
        service.metrics,
        service.ports.clock,
        https=service.settings.public_url.startswith("https:"),
    )


def build_api(service: Service) -> FastAPI:
    """Return the routes alone; ``request.app.state.service`` is what they work with."""
    api = FastAPI(
        title="Oubliette",
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    api.state.service = service
    api.state.lanes = Lanes()
    api.state.stream_slots = asyncio.Semaphore(service.settings.streams_max)
    api.state.upload_slots = service.upload_slots
    api.state.export_slots = asyncio.Semaphore(exports.AT_ONCE)
    if service.role not in TAKES_REQUESTS:
        api.include_router(health.router)
        return _answering_errors(api)
    for route in (*BYTE_ROUTES, *PAGE_ROUTES):
        methods = sorted(route.methods or ())
        api.router.routes.append(ByteRoute(route.path, route.endpoint, methods=methods))
    for router in ROUTERS:
        api.include_router(router)
    return _answering_errors(api)


def _answering_errors(api: FastAPI) -> FastAPI:
    """Answer every failure with a problem document."""
    api.add_exception_handler(OublietteError, _refused)
    api.add_exception_handler(RequestValidationError, _malformed)
    api.add_exception_handler(HTTPException, _framework)
    api.add_exception_handler(ClientDisconnect, _gone)
    api.add_exception_handler(Exception, _fault)
    install_openapi(api)
    return api


@asynccontextmanager
async def _lifespan(api: FastAPI) -> AsyncIterator[None]:
    service: Service = api.state.service
    anyio.to_thread.current_default_thread_limiter().total_tokens = REQUEST_THREADS
    with for_all_controllers():
        await anyio.to_thread.run_sync(service.start)
    try:
        yield
    finally:
        with for_all_controllers():
            await anyio.to_thread.run_sync(service.stop)


def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, OublietteError):
        raise error
    note_problem(request.scope, error)
    return problem_response(error)


def _malformed(request: Request, error: Exception) -> Response:
    """Name the members that do not fit, never their values."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    where = [_place(one) for one in found[:_WHERE_MAX]]
    return _refused(request, InvalidRequest(what="body-or-parameters", where=sorted(set(where))))


def _place(one: Any) -> str:
    """Spell where a request does not fit; a member's name that nobody knows is not repeated."""
    steps = [str(step) for step in one["loc"]]
    if one["type"] == "extra_forbidden":
        steps[-1] = "(unknown member)"
    return ".".join(steps)


def _framework(request: Request, error: Exception) -> Response:
    """Turn what Starlette and FastAPI raise on their own into our errors."""
    status = error.status_code if isinstance(error, HTTPException) else 0
    if status == HTTPStatus.NOT_FOUND:
        return _refused(request, RouteNotFound())
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        return _refused(request, MethodNotAllowed(allowed=_allowed(request)))
    if status in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return _refused(request, InvalidRequest(what="body"))
    return _refused(request, InternalFailure())


def _allowed(request: Request) -> list[str]:
    """Return every method that this path takes, whichever routes they belong to."""
    path = request.scope["path"]
    listed = [*BYTE_ROUTES, *PAGE_ROUTES, *(route for router in ROUTERS for route in router.routes)]
    matching = [
        route for route in listed if isinstance(route, Route) and route.path_regex.match(path)
    ]
    return sorted({method for route in matching for method in route.methods or ()})


async def _gone(request: Request, error: Exception) -> Response:
    """Answer a caller that has left: nobody reads it, the log line says so."""
    del error
    request.scope["state"]["exchange"].code = "client-gone"
    return Response(status_code=HTTPStatus.BAD_REQUEST)


def _fault(request: Request, error: Exception) -> Response:
    """Answer a fault of ours, once it is in the log."""
    note_fault(request.scope, error)
    return problem_response(InternalFailure())
