"""What wraps every request: its id, its limits, its headers, its one log line, its figures.

A plain ASGI callable around the whole application, so that an answer that some framework made
(404, 405, 500) or that no route saw still gets the same headers and a problem body. A fault of
ours is logged by type and place and answered with ``internal-failure`` and the request id; once
the status line is out, the connection is cut instead, so that a cut is visible as a cut.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import InternalFailure
from api.limits import check_headers
from api.metrics import Metrics
from api.observability import fault_fields, log, request_id
from api.problems import problem_response, status_of
from core.errors import OublietteError
from core.ports import Clock
from core.scope import begin_request

NO_ROUTE: Final = "(none)"
_ID_BYTES: Final = 8
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
_HEADERS: Final = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; base-uri 'none'; frame-ancestors 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"microphone=(), camera=(), geolocation=()",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
_STRICT_TRANSPORT: Final = b"max-age=31536000; includeSubDomains"


@dataclass
class Exchange:
    """What is known of one request while it runs."""

    id: str
    began_s: float = field(default_factory=time.perf_counter)
    status: int = 0
    received_bytes: int = 0
    sent_bytes: int = 0
    code: str = ""
    complete: bool = False


@dataclass(frozen=True)
class Envelope:
    """Wraps the application; see the module."""

    app: ASGIApp
    metrics: Metrics
    clock: Clock
    https: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever the application does."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange("req_" + self.clock.random_bytes(_ID_BYTES).hex())
        scope.setdefault("state", {})["exchange"] = exchange
        token = request_id.set(exchange.id)
        self.metrics.in_flight.inc()
        try:
            with begin_request():  # no rows are in scope until the caller is known
                await self._answer(
                    scope, _counted(receive, exchange), self._dressed(send, exchange)
                )
        finally:
            self.metrics.in_flight.dec()
            self._record(scope, exchange)
            request_id.reset(token)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope["state"]["exchange"]
        try:
            check_headers(scope["headers"])
            await self.app(scope, receive, send)
        except Exception as error:
            if not isinstance(error, OublietteError) and exchange.code != InternalFailure.code:
                note_fault(scope, error)
            if exchange.complete:
                return
            if exchange.status:
                raise ConnectionAbortedError from error  # the server cuts the connection
            shown = error if isinstance(error, OublietteError) else InternalFailure()
            exchange.code = shown.code
            await problem_response(shown)(scope, receive, send)

    def _dressed(self, send: Send, exchange: Exchange) -> Send:
        """Add the headers that every answer has, and count what goes out."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                message = {**message, "headers": self._headers(message, exchange)}
            await send(message)  # whoever gives up waiting for it has sent nothing
            if message["type"] == "http.response.body":
                exchange.sent_bytes += len(message.get("body", b""))
                exchange.complete = not message.get("more_body", False)

        return dressed

    def _headers(self, message: Message, exchange: Exchange) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers", []))
        present = {name.lower() for name, _ in headers}
        headers += [(name, value) for name, value in _HEADERS.items() if name not in present]
        headers.append((b"x-request-id", exchange.id.encode()))
        if self.https:
            headers.append((b"strict-transport-security", _STRICT_TRANSPORT))
        return headers

    def _record(self, scope: Scope, exchange: Exchange) -> None:
        """Write the one line of this request and count it."""
        seconds = time.perf_counter() - exchange.began_s
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        status = exchange.status or HTTPStatus.INTERNAL_SERVER_ERROR
        self.metrics.requests.labels(method, route, str(int(status))).inc()
        self.metrics.duration_seconds.labels(method, route).observe(seconds)
        self.metrics.received_bytes.inc(exchange.received_bytes)
        self.metrics.sent_bytes.inc(exchange.sent_bytes)
        if exchange.code:
            self.metrics.refusals.labels(exchange.code).inc()
        log().info(
            "request",
            method=method,
            route=route,
            status=int(status),
            duration_ms=round(seconds * 1000, 1),
            bytes_received=exchange.received_bytes,
            bytes_sent=exchange.sent_bytes,
            actor_id=scope["state"].get("actor_id", ""),
            code=exchange.code,
        )


def note_problem(scope: Scope, error: OublietteError) -> None:
    """Tell the log line of this request which error it ended with."""
    exchange = scope.get("state", {}).get("exchange")
    if isinstance(exchange, Exchange):
        exchange.code = error.code
    if status_of(error) == HTTPStatus.INTERNAL_SERVER_ERROR:
        log().error("fault", **fault_fields(error))


def note_fault(scope: Scope, error: Exception) -> None:
    """Log an exception nobody meant to raise, and mark the request's line with it."""
    scope["state"]["exchange"].code = InternalFailure.code
    log().error("fault", **fault_fields(error))


def _counted(receive: Receive, exchange: Exchange) -> Receive:
    async def counted() -> Message:
        message = await receive()
        exchange.received_bytes += len(message.get("body", b""))
        return message

    return counted
