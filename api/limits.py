"""Limits of requests, in one frozen value that routes, OpenAPI and tests read.

Header fields are counted for every request. Bodies of JSON routes are read here, bounded in bytes
and time, and must be one unambiguous JSON document; the byte routes count their own bodies as they
stream. Slots turn more work than the machine can do into ``busy`` with Retry-After, and a sliding
window per person keeps listens and searches at a pace that a person can have, at all replicas
together (``api/rates.py``). Slots are a machine's: each replica has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from fastapi import Depends
from fastapi.routing import APIRoute
from limits import parse as parse_rate
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from api.errors import (
    BodyTooLarge,
    BodyTooSlow,
    HeadersTooLarge,
    RateLimited,
    UnsupportedMediaType,
)
from api.rates import SharedWindows
from api.strict_json import parse
from core.errors import InvalidRequest

JSON_DEPTH_MAX: Final = 8
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH"})


@dataclass(frozen=True)
class Limits:
    """What one request may be."""

    json_body_bytes: int = 65_536
    json_body_s: float = 10.0
    header_bytes: int = 16_384
    header_fields: int = 64
    metadata_header_bytes: int = 4_096
    metadata_part_bytes: int = 16_384
    reason_min_characters: int = 10
    reason_max_characters: int = 500
    erasure_list_max: int = 1_000
    listens_a_minute: int = 10
    searches_a_minute: int = 10


LIMITS: Final = Limits()


def check_headers(headers: list[tuple[bytes, bytes]], limits: Limits = LIMITS) -> None:
    """Refuse too many header fields, too many bytes of them, or two framings of one body.

    Raises:
        HeadersTooLarge, InvalidRequest.
    """
    size = sum(len(name) + len(value) + 4 for name, value in headers)
    if len(headers) > limits.header_fields or size > limits.header_bytes:
        raise HeadersTooLarge(fields_max=limits.header_fields, bytes_max=limits.header_bytes)
    names = [name for name, _ in headers]
    if names.count(b"content-length") > 1 or (
        b"transfer-encoding" in names and b"content-length" in names
    ):
        raise InvalidRequest(what="framing")


class JsonRoute(APIRoute):
    """A FastAPI route whose body is read within limits before anything parses it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.method not in _BODY_METHODS:
                return await inner(request)
            body = await read_json_body(request, LIMITS)
            return await inner(Request(request.scope, _replay(body)))

        return handle


async def read_json_body(request: Request, limits: Limits) -> bytes:
    """Return the whole body of a JSON request, which may be empty.

    Raises:
        BodyTooLarge, BodyTooSlow: it is above the limits; the rest is not read.
        UnsupportedMediaType: there is a body and it is not ``application/json``.
        InvalidRequest: it is not one unambiguous JSON document.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and len(declared) < 20 and int(declared) > limits.json_body_bytes:  # noqa: PLR2004
        raise BodyTooLarge(bytes_max=limits.json_body_bytes)
    try:
        async with asyncio.timeout(limits.json_body_s):
            body = await _collect(request, limits.json_body_bytes)
    except TimeoutError as err:
        raise BodyTooSlow from err
    if body:
        _check_json(body, request.headers)
    return body


async def _collect(request: Request, bytes_max: int) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise BodyTooLarge(bytes_max=bytes_max)
    return bytes(body)


def _check_json(body: bytes, headers: Headers) -> None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or "content-encoding" in headers:
        raise UnsupportedMediaType(expected="application/json")
    try:
        parse(body, depth_max=JSON_DEPTH_MAX)
    except ValueError as err:
        raise InvalidRequest(what="json") from err


def json_body() -> Any:
    """Make a dependency that hands a route the bytes of its JSON body, checked but not parsed."""

    async def read(request: Request) -> bytes:
        return await request.body()

    return Depends(read)


def _replay(body: bytes) -> Callable[[], Coroutine[Any, Any, Message]]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


@dataclass(frozen=True)
class PersonalRate:
    """So many requests of one kind a minute for each person, at all replicas together.

    Attributes:
        kind: for the refusal. a_minute: how many.
        shared: where replicas count; None: this process is the only one.
    """

    kind: str
    a_minute: int
    shared: SharedWindows | None = None
    _window: SlidingWindowCounterRateLimiter = field(
        default_factory=lambda: SlidingWindowCounterRateLimiter(MemoryStorage())
    )

    def check(self, actor_id: str) -> None:
        """Count one request of this person.

        Raises:
            RateLimited: the person has had as many as a minute allows; not counted.
            DatabaseUnavailable: where replicas count does not answer.
        """
        if self.shared is None:
            rate = parse_rate(f"{self.a_minute}/minute")
            counted = self._window.hit(rate, self.kind, actor_id)
        else:
            counted = self.shared.hit(self.kind, actor_id, most=self.a_minute)
        if not counted:
            raise RateLimited(what=self.kind, a_minute=self.a_minute, retry_after_s=10)
