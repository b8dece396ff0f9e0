"""The audio of a granted listen: ``GET`` and ``HEAD /v1/listens/{listen_id}/audio?ticket=...``.

A Starlette route beside FastAPI, because it moves bytes. The ticket in the address is the right;
a listen granted to a browser also wants its cookie. One range a request (206), a range past the end
is 416, anything else is the whole recording. ``HEAD`` proves the length, costs no budget and leaves
no entry.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.errors import Busy
from api.lanes import Lanes, Openings
from api.ranges import ByteRange, requested_range
from api.streaming import AudioResponse, audio_headers
from core import ids
from vault.errors import TicketEnded
from vault.open_audio import Admission, OpenAudio, Player

PATH: Final = "/v1/listens/{listen_id}/audio"
TICKET_MAX_CHARACTERS: Final = 64
COOKIE_PREFIX: Final = "__Host-oubliette-"


@dataclass(frozen=True)
class _Asked:
    listen_id: str
    ticket: str
    cookie: str
    range_header: str | None
    if_range: str | None


def cookie_name(listen_id: str) -> str:
    """Return the name of the cookie that binds a listen to one browser."""
    return COOKIE_PREFIX + listen_id


async def audio(request: Request) -> Response:
    """Answer with verified audio, or with the head alone."""
    asked = _asked(request)
    player: Player = request.app.state.service.player
    lanes: Lanes = request.app.state.lanes
    if request.method == "HEAD":
        admission, wanted = await to_thread.run_sync(
            _head, player, asked, lanes.openings, limiter=lanes.streams
        )
        headers = audio_headers(admission, wanted)
        return Response(status_code=_status(wanted), headers=headers)
    slots: asyncio.Semaphore = request.app.state.stream_slots
    if slots.locked():
        raise Busy
    await slots.acquire()
    try:
        opening = partial(_open, player, asked, lanes.openings, on_end=slots.release)
        return await to_thread.run_sync(opening, limiter=lanes.streams)
    except BaseException:
        slots.release()
        raise


def _asked(request: Request) -> _Asked:
    listen_id = request.path_params["listen_id"]
    ticket = request.query_params.get("ticket", "")
    if not ids.is_id(listen_id, "lis_") or not 0 < len(ticket) <= TICKET_MAX_CHARACTERS:
        raise TicketEnded
    return _Asked(
        listen_id=listen_id,
        ticket=ticket,
        cookie=request.cookies.get(cookie_name(listen_id), ""),
        range_header=request.headers.get("range"),
        if_range=request.headers.get("if-range"),
    )


def _admit(player: Player, asked: _Asked) -> tuple[Admission, ByteRange]:
    admission = player.admit(asked.listen_id, ticket=asked.ticket, cookie=asked.cookie)
    wanted = requested_range(
        asked.range_header,
        total_bytes=admission.total_bytes,
        if_range=asked.if_range,
        etag=admission.etag,
    )
    return admission, wanted


def _head(player: Player, asked: _Asked, openings: Openings) -> tuple[Admission, ByteRange]:
    admission, wanted = _admit(player, asked)
    with openings.one_of(asked.listen_id):
        player.prove(admission)
    return admission, wanted


def _open(
    player: Player, asked: _Asked, openings: Openings, *, on_end: Callable[[], None]
) -> Response:
    admission, wanted = _admit(player, asked)
    with openings.one_of(asked.listen_id):
        opened: OpenAudio = player.open(admission, first=wanted.first, last=wanted.last)
    return AudioResponse(
        opened,
        status_code=_status(wanted),
        headers=audio_headers(admission, wanted),
        reads_block=player.store.reads_block,
        on_end=on_end,
    )


def _status(wanted: ByteRange) -> int:
    return HTTPStatus.PARTIAL_CONTENT if wanted.partial else HTTPStatus.OK


ROUTES: Final = (Route(PATH, audio, methods=["GET", "HEAD"]),)
