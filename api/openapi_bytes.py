"""OpenAPI path items of the routes that move bytes and therefore stand beside FastAPI.

Their limits come from the same value that the routes read, their refusals from where codes have
their statuses. A test compares these paths and methods with the routes.
"""

from __future__ import annotations

import json
from typing import Any, Final

from api.limits import LIMITS
from api.openapi_text import problems
from api.routes.deposits import POST_PATH, PUT_PATH
from api.routes.listen_audio import PATH as AUDIO_PATH
from api.routes.listen_audio import TICKET_MAX_CHARACTERS

_SECURITY: Final[list[dict[str, list[str]]]] = [{"token": []}, {"depositKey": []}]
_AUDIO: Final = {"schema": {"type": "string", "format": "binary"}}
_METADATA: Final = {
    "started_at": "2026-03-02T09:30:00Z",
    "direction": "outbound",
    "agent": "a.martin",
    "contact_number": "+33 1 99 00 12 34",
}
_DEPOSITED: Final = {
    "id": "rec_3v7k0q2m5w9x1c4z6b8n0s2d4f",
    "campaign_id": "cmp_3v7k0q2m5w9x1c4z6b8n0s2d4f",
    "stored_at": "2026-03-02T09:33:04.120Z",
    "clear_bytes": 480_044,
    "duration_ms": 30_000,
    "codec": "pcm16",
    "oddities": [],
    "entry_id": "ent_3v7k0q2m5w9x1c4z6b8n0s2d4f",
    "leaf_hash": "0" * 64,
    "receipt": "oubliette deposit receipt v1\n...",
}
_REFUSALS: Final = (
    "campaign-not-found",
    "campaign-not-open",
    "country-not-allowed",
    "deadline-passed",
    "deposit-in-progress",
    "deposit-lost",
    "digest-mismatch",
    "duplicate-deposit",
    "indexes-exhausted",
    "metadata-invalid",
    "recording-erased",
    "recording-too-large",
    "started-in-future",
    "unsupported-audio",
    "upload-too-slow",
    "busy",
    "key-unavailable",
    "lease-lost",
    "ledger-unavailable",
    "store-unavailable",
)


def _parameter(name: str, where: str, text: str, **schema: Any) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": text,
        "schema": {"type": "string", **schema},
    }


def _answers(*codes: str) -> dict[str, Any]:
    return {str(status): answer for status, answer in problems(*codes).items()}


def _deposited(description: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": list(_DEPOSITED),
        "properties": {name: _type_of(value) for name, value in _DEPOSITED.items()},
    }
    content = {"schema": schema, "examples": {"deposit": {"value": _DEPOSITED}}}
    location = {"description": "Address of the recording.", "schema": {"type": "string"}}
    return {
        "description": description,
        "headers": {"Location": location},
        "content": {"application/json": content},
    }


def _type_of(value: object) -> dict[str, Any]:
    if isinstance(value, list):
        return {"type": "array", "items": {"type": "string"}}
    return {"type": "integer"} if isinstance(value, int) else {"type": "string"}


_CAMPAIGN: Final = _parameter("campaign", "path", "Id or slug.", maxLength=40)
_DIGEST: Final = _parameter(
    "Content-Digest", "header", "RFC 9530, sha-256: compared with the body when it is there."
)
_TAKEN: Final = {
    "201": _deposited("Kept: sealed, durable and in the ledger before this was sent."),
    "200": _deposited("The same recording had come before under this id."),
}

_PUT: Final[dict[str, Any]] = {
    "tags": ["deposits"],
    "operationId": "put_recording",
    "summary": "Deposit a recording under the sender's own id",
    "description": (
        "The body is the audio as it is, streamed and sealed as it comes. The same body again is "
        "200, another one under the same id 409. Credentials: a token with the role intake, a "
        "deposit key, or an upload address's token in the query."
    ),
    "security": [*_SECURITY, {}],
    "parameters": [
        _CAMPAIGN,
        _parameter("external_id", "path", "The sender's own id.", minLength=1, maxLength=200),
        _parameter("token", "query", "Of an upload address.", maxLength=64),
        _parameter(
            "Oubliette-Metadata",
            "header",
            f"base64url of a JSON object, at most {LIMITS.metadata_header_bytes} characters.",
            maxLength=LIMITS.metadata_header_bytes,
            pattern="^[A-Za-z0-9_-]*$",
        ),
        _DIGEST,
    ],
    "requestBody": {
        "required": True,
        "content": {"audio/wav": _AUDIO, "audio/mpeg": _AUDIO, "application/octet-stream": _AUDIO},
    },
    "responses": {**_TAKEN, **_answers(*_REFUSALS)},
}
_POST: Final[dict[str, Any]] = {
    "tags": ["deposits"],
    "operationId": "post_recording",
    "summary": "Deposit a recording as a form",
    "description": "Two parts in this order: metadata, then audio; read as a stream.",
    "security": _SECURITY,
    "parameters": [_CAMPAIGN, _DIGEST],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["metadata", "audio"],
                    "properties": {
                        "metadata": {
                            "type": "string",
                            "maxLength": LIMITS.metadata_part_bytes,
                            "examples": [json.dumps(_METADATA)],
                        },
                        "audio": {"type": "string", "format": "binary"},
                    },
                }
            }
        },
    },
    "responses": {"201": _TAKEN["201"], **_answers(*_REFUSALS, "metadata-first")},
}


_LENGTH: Final = {
    "Content-Length": {"schema": {"type": "integer"}},
    "ETag": {"schema": {"type": "string"}},
}
_RANGED: Final = {**_LENGTH, "Content-Range": {"schema": {"type": "string"}}}
_HEARD: Final = (
    "ticket-ended",
    "recording-erased",
    "range-not-satisfiable",
    "integrity-failure",
    "busy",
    "key-unavailable",
    "lease-lost",
    "store-unavailable",
    "listen-denied",
)


def _audio(summary: str, *, head: bool) -> dict[str, Any]:
    body = {} if head else {"content": {"audio/*": _AUDIO}}
    refusals = problems(*_HEARD, public=True)
    return {
        "tags": ["listens"],
        "operationId": "head_audio" if head else "get_audio",
        "summary": summary,
        "description": "Works until the ticket ends; nothing of it may be stored.",
        "security": [],
        "parameters": [
            _parameter("listen_id", "path", "Of the granted listen.", maxLength=40),
            _parameter(
                "ticket",
                "query",
                "As granted; a browser's cookie goes with it.",
                maxLength=TICKET_MAX_CHARACTERS,
            ),
            _parameter("Range", "header", "One byte range; others are answered whole."),
            _parameter("If-Range", "header", "The strong ETag."),
        ],
        "responses": {
            "200": {"description": "The whole recording.", "headers": _LENGTH, **body},
            "206": {"description": "The one range asked for.", "headers": _RANGED, **body},
            **{str(status): answer for status, answer in refusals.items()},
        },
    }


BYTE_PATHS: Final[dict[str, dict[str, Any]]] = {
    PUT_PATH.replace(":path}", "}"): {"put": _PUT},
    POST_PATH: {"post": _POST},
    AUDIO_PATH: {
        "get": _audio("Hear a granted listen", head=False),
        "head": _audio("Ask for length and ETag of a granted listen", head=True),
    },
}
