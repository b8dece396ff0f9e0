"""Recordings arriving: ``PUT /v1/campaigns/{c}/recordings/{external_id}`` and the form ``POST``.

Starlette routes beside FastAPI, because they move bytes: each piece is sealed on the event loop as
it comes, and only what blocks (the first and last transaction, fsync, parts of an S3 upload) runs
in a thread. Nothing here keeps a body, and no form parser that spools is used.

A sender may show a token of the issuer, a deposit key, or (``?token=``) an upload address. 201 and
200 mean durable. An early refusal first takes in, within bounds, what is still being sent: a sender
that writes and never reads would otherwise see a reset connection instead of the reason. Whatever
comes after the answer is still read for a moment (``api.lingering``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final, TypeVar

import anyio
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.content_digest import BodyDigest
from api.deposit_request import Sender, form_request, raw_request
from api.envelope import note_problem
from api.limits import LIMITS
from api.lingering import LingeringAnswer
from api.multipart import AudioBegins, AudioForm, AudioPiece, FormEvent
from api.problems import problem_response
from api.service import Service
from api.upload_body import Pace, UploadBody, shutting_down
from core.clock import to_text
from core.errors import OublietteError
from vault.access import Actor
from vault.deposit_end import Deposited, refusal_code
from vault.errors import MetadataFirst, UploadTooSlow, VaultError
from vault.open_deposit import OpenDeposit
from vault.replay import Replay

PUT_PATH: Final = "/v1/campaigns/{campaign}/recordings/{external_id:path}"
POST_PATH: Final = "/v1/campaigns/{campaign}/recordings"

Result = TypeVar("Result")
Take = Callable[[Request, UploadBody], Awaitable[Response]]
Upload = OpenDeposit | Replay


async def put_recording(request: Request) -> Response:
    """Take a raw body under the sender's own id."""
    return await _answer(request, _take_raw)


async def post_recording(request: Request) -> Response:
    """Take a form: metadata first, then audio."""
    return await _answer(request, _take_form)


async def _answer(request: Request, take: Take) -> Response:
    service: Service = request.app.state.service
    body = UploadBody(request.receive, Pace(idle_s=service.settings.upload_idle_s))
    try:
        if service.readiness.draining.is_set():
            raise shutting_down()
        with service.upload_slots.take(), service.uploads.watch(body):
            async with body:
                return await take(request, body)
    except OublietteError as error:
        return await _refused(request, body, error)


async def _take_raw(request: Request, body: UploadBody) -> Response:
    digest = BodyDigest(request.headers.get("content-digest"))
    actor, upload = await _in_thread(request, _begin_raw, request)
    try:
        while (piece := await body.next()) is not None:
            digest.update(piece)
            if upload.write(piece):
                await _in_thread(request, upload.flush)
        digest.check()
    except BaseException as error:
        await _abort(request, upload, error)
        raise
    return await _in_thread(request, _finish, request, actor, upload)


def _begin_raw(request: Request) -> tuple[Actor, Upload]:
    """Recognise the sender and take an index, in one trip to a thread."""
    asked = raw_request(request)
    service: Service = request.app.state.service
    actor = _sender(request).authenticate(asked.external_id)
    return actor, service.deposit.begin(actor, asked)


async def _take_form(request: Request, body: UploadBody) -> Response:
    actor = await _in_thread(request, _sender(request).authenticate)
    form = AudioForm(
        request.headers.get("content-type", ""), metadata_max_bytes=LIMITS.metadata_part_bytes
    )
    digest = BodyDigest(request.headers.get("content-digest"))
    service: Service = request.app.state.service
    events = _events(form, body, digest)
    asked = form_request(request, await _audio_begins(request, actor, events))
    upload = await _in_thread(request, service.deposit.begin, actor, asked)
    try:
        async for event in events:
            if isinstance(event, AudioPiece) and upload.write(event.data):
                await _in_thread(request, upload.flush)
    except BaseException as error:
        await _abort(request, upload, error)
        raise
    return await _in_thread(request, _finish, request, actor, upload)


async def _events(
    form: AudioForm, body: UploadBody, digest: BodyDigest
) -> AsyncIterator[FormEvent]:
    while (piece := await body.next()) is not None:
        digest.update(piece)
        for event in form.feed(piece):
            yield event
    form.end()
    digest.check()


async def _audio_begins(
    request: Request, actor: Actor, events: AsyncIterator[FormEvent]
) -> AudioBegins:
    """Read as far as the audio; a form refused before that is in the ledger too."""
    service: Service = request.app.state.service
    try:
        async for event in events:
            if isinstance(event, AudioBegins):
                return event
        raise MetadataFirst(missing="audio")
    except VaultError as refusal:
        campaign = request.path_params["campaign"]
        await _in_thread(request, service.deposit.refuse, actor, refusal.code, campaign)
        raise


async def _abort(request: Request, upload: Upload, error: BaseException) -> None:
    """End an upload that failed, even when this task is being cancelled."""
    with anyio.CancelScope(shield=True):
        await _in_thread(request, upload.abort, refusal_code(error))


async def _in_thread(request: Request, work: Callable[..., Result], *given: Any) -> Result:
    """Do what blocks in one of the threads of uploads: a store that stalls takes no others."""
    lane = request.app.state.lanes.uploads
    return await to_thread.run_sync(work, *given, limiter=lane)


async def _refused(request: Request, body: UploadBody, error: OublietteError) -> Response:
    """Answer a refusal; a body that goes on after it ends with the connection."""
    note_problem(request.scope, error)
    response = problem_response(error)
    waits = request.headers.get("expect", "").lower() == "100-continue"
    unsent = waits and not body.received_bytes
    if not body.complete and not unsent and not isinstance(error, UploadTooSlow):
        await body.drain()
    if body.complete:
        return response
    response.headers["Connection"] = "close"
    return response if unsent else LingeringAnswer(response, body)


def _sender(request: Request) -> Sender:
    service: Service = request.app.state.service
    ledger_id = service.ports.vault.ledger_controller_id
    return Sender(request, service.authenticator, service.deposit_keys, ledger_id, service.accounts)


def _finish(request: Request, actor: Actor, upload: Upload) -> Response:
    """Make it durable, then answer: 201 for a new recording, 200 for the same again."""
    service: Service = request.app.state.service
    done = upload.finish()
    if done.created:
        service.metrics.recording_taken(clear_bytes=done.clear_bytes, duration_ms=done.duration_ms)
    if done.entry is not None:
        receipt = service.receipts.immediate(done.entry)
    else:
        receipt = service.receipts.again(actor, done.recording_id)
    return JSONResponse(
        {**_facts(done), "receipt": receipt},
        status_code=HTTPStatus.CREATED if done.created else HTTPStatus.OK,
        headers={"Location": f"/v1/recordings/{done.recording_id}"},
    )


def _facts(done: Deposited) -> dict[str, object]:
    """Return the members of an answer that stay the same whenever it is given."""
    return {
        "id": done.recording_id,
        "campaign_id": done.campaign_id,
        "stored_at": to_text(done.stored_at),
        "clear_bytes": done.clear_bytes,
        "duration_ms": done.duration_ms,
        "codec": done.codec,
        "oddities": list(done.oddities),
        "entry_id": done.entry_id,
        "leaf_hash": done.leaf_hash.hex(),
    }


ROUTES: Final = (
    Route(PUT_PATH, put_recording, methods=["PUT"]),
    Route(POST_PATH, post_recording, methods=["POST"]),
)
