"""The one place that knows which HTTP status an error has.

Every refusal is an RFC 9457 ``application/problem+json`` body. It carries the error's stable code,
its one-sentence title and its facts (ids, counts, instants): never a trace, a message of a foreign
library, key material, audio, a phone number or the caller's own words.

Source: RFC 9457 section 3; RFC 9110 sections 10.2.3 (Retry-After) and 11.6.1 (WWW-Authenticate).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final

from starlette.responses import Response

from core.clock import to_text
from core.errors import Fact, OublietteError

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:oubliette:error:"
RETRY_AFTER_S: Final = 5

STATUS: Final[Mapping[str, int]] = {
    "invalid-request": 400,
    "unauthenticated": 401,
    "log-in-failed": 401,
    "step-up-required": 401,
    "csrf-refused": 403,
    "role-required": 403,
    "approval-required": 403,
    "account-suspended": 403,
    "listen-denied": 403,
    "account-not-found": 404,
    "approval-not-found": 404,
    "campaign-not-found": 404,
    "deposit-key-not-found": 404,
    "entry-not-found": 404,
    "erasure-not-found": 404,
    "freeze-not-found": 404,
    "grant-not-found": 404,
    "export-not-found": 404,
    "hold-not-found": 404,
    "listen-not-found": 404,
    "recording-not-found": 404,
    "review-not-found": 404,
    "route-not-found": 404,
    "search-not-found": 404,
    "set-aside-not-found": 404,
    "method-not-allowed": 405,
    "body-too-slow": 408,
    "upload-too-slow": 408,
    "already-initialised": 409,
    "approval-conflict": 409,
    "brake-engaged": 409,
    "campaign-conflict": 409,
    "campaign-not-open": 409,
    "certificate-pending": 409,
    "country-not-allowed": 409,
    "deposit-in-progress": 409,
    "deposit-lost": 409,
    "duplicate-deposit": 409,
    "erasure-conflict": 409,
    "grant-conflict": 409,
    "export-conflict": 409,
    "hold-in-force": 409,
    "indexes-exhausted": 409,
    "plan-changed": 409,
    "restore-refused": 409,
    "restriction-in-force": 409,
    "retention-floor": 409,
    "backup-invalid": 409,
    "backup-refused": 409,
    "set-aside-conflict": 409,
    "review-conflict": 409,
    "uploads-in-progress": 409,
    "leaf-punctured": 410,
    "recording-erased": 410,
    "ticket-ended": 410,
    "body-too-large": 413,
    "recording-too-large": 413,
    "unsupported-audio": 415,
    "unsupported-media-type": 415,
    "range-not-satisfiable": 416,
    "certificate-invalid": 422,
    "deadline-passed": 422,
    "digest-mismatch": 422,
    "metadata-first": 422,
    "metadata-invalid": 422,
    "policy-invalid": 422,
    "purpose-unknown": 422,
    "reason-required": 422,
    "recipient-invalid": 422,
    "started-in-future": 422,
    "rate-limited": 429,
    "headers-too-large": 431,
    "integrity-failure": 500,
    "internal-failure": 500,
    "key-missing": 500,
    "keys-lost": 500,
    "ledger-corrupt": 500,
    "object-exists": 500,
    "object-missing": 500,
    "schema-mismatch": 500,
    "settings-invalid": 500,
    "unsafe-database": 500,
    "busy": 503,
    "clock-doubtful": 503,
    "destruction-unconfirmed": 503,
    "fsync-failed": 503,
    "issuer-unavailable": 503,
    "key-unavailable": 503,
    "lease-lost": 503,
    "ledger-unavailable": 503,
    "migration-blocked": 503,
    "not-initialised": 503,
    "not-ready": 503,
    "pointer-moved": 503,
    "restore-needed": 503,
    "store-unavailable": 503,
}

_RESERVED: Final = frozenset({"type", "title", "status", "detail", "instance", "code"})


def status_of(error: OublietteError) -> int:
    """Return the HTTP status of an error; a code nobody listed is a fault of the service."""
    return STATUS.get(error.code, 500)


def problem_body(error: OublietteError) -> dict[str, object]:
    """Return the members of the problem document.

    Faults of the service (500) carry no facts: what they name is for the log, not for the caller.
    """
    status = status_of(error)
    body: dict[str, object] = {
        "type": TYPE_PREFIX + error.code,
        "title": error.title,
        "status": status,
        "code": error.code,
    }
    if status != HTTPStatus.INTERNAL_SERVER_ERROR:  # the one status that must not explain itself
        shown = {name: _shown(fact) for name, fact in error.facts.items()}
        body |= {name: fact for name, fact in shown.items() if name not in _RESERVED}
    return body


def problem_response(error: OublietteError) -> Response:
    """Return the whole answer to an error; usable from routes that are not FastAPI's."""
    return Response(
        json.dumps(problem_body(error), ensure_ascii=True),
        status_code=status_of(error),
        media_type=MEDIA_TYPE,
        headers=problem_headers(error),
    )


def problem_headers(error: OublietteError) -> dict[str, str]:
    """Return the header fields an error needs beside its body.

    ``Content-Range`` for 416 comes from the fact ``length_bytes``, ``Allow`` for 405 from
    ``allowed``, ``Retry-After`` from ``retry_after_s`` or 5 seconds.
    """
    headers = {"Cache-Control": "no-store"}
    status = status_of(error)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = _challenge(error)
    allowed = error.facts.get("allowed")
    if error.code == "method-not-allowed" and isinstance(allowed, list):
        headers["Allow"] = ", ".join(allowed)
    if error.code == "range-not-satisfiable" and "length_bytes" in error.facts:
        headers["Content-Range"] = f"bytes */{error.facts['length_bytes']}"
    if error.code in {"body-too-large", "body-too-slow"}:
        headers["Connection"] = "close"  # what is left of the body is not waited for
    if error.retryable or status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(error.facts.get("retry_after_s", RETRY_AFTER_S))
    return headers


def _challenge(error: OublietteError) -> str:
    """Spell RFC 6750's challenge; RFC 9470's when a step-up is asked for."""
    if error.code == "step-up-required":
        acr, age = error.facts.get("acr_values"), error.facts.get("max_age_s")
        extra = f', acr_values="{acr}"' if acr else ""
        extra += f", max_age={age}" if age else ""
        return f'Bearer realm="oubliette", error="insufficient_user_authentication"{extra}'
    if error.facts.get("reason") == "missing":
        return 'Bearer realm="oubliette"'
    return 'Bearer realm="oubliette", error="invalid_token"'


def _shown(fact: Fact) -> object:
    return to_text(fact) if isinstance(fact, datetime) else fact
