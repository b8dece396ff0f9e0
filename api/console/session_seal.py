"""What a session knows, sealed under a key made from its cookie: who has the row has nothing."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from api.console import session_rows
from api.console.login import spell
from api.console.session_rows import SessionRow
from api.errors import Unauthenticated
from api.jwk import decode_base64url
from core.db import Database
from core.errors import IntegrityFailure
from core.ports import Clock
from core.scope import for_all_controllers
from keys import labels
from keys.model import Subject
from keys.wrap import NONCE_BYTES, open_message, seal_message

SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")


@dataclass(frozen=True)
class Known:
    """What a session knows, as it is sealed."""

    claims: Mapping[str, Any] = field(repr=False)
    refresh_token: str = field(repr=False)


def sealed(row: SessionRow, secret: str, known: Known, clock: Clock) -> SessionRow:
    """Return the row with what the session knows sealed into it."""
    clear = json.dumps({"claims": known.claims, "refresh": known.refresh_token}).encode()
    nonce = clock.random_bytes(NONCE_BYTES)
    label = labels.BROWSER_SESSION
    return row.sealing(
        seal_message(_key(secret), label, _subject(row), clear, nonce, context=row.secret_sha256)
    )


def known_of(row: SessionRow, secret: str) -> Known:
    """Return what a session knows.

    Raises:
        Unauthenticated: the row does not open under this secret.
    """
    label = labels.BROWSER_SESSION
    try:
        clear = open_message(
            _key(secret), label, _subject(row), row.sealed, context=row.secret_sha256
        )
    except (IntegrityFailure, ValueError) as err:
        raise Unauthenticated(reason="session-ended") from err
    said = json.loads(clear)
    return Known(said["claims"], said["refresh"])


def find_by_secret(database: Database, secret: str) -> SessionRow | None:
    """Return the row of a cookie or of a link's code, None when there is none."""
    if not SECRET.fullmatch(secret):
        return None
    with for_all_controllers():
        return session_rows.find(database, fingerprint(secret))


def fingerprint(secret: str) -> bytes:
    """Return the 32 bytes under which a session is stored."""
    return hashlib.sha256(secret.encode()).digest()


def request_token(secret: str) -> str:
    """Return what a page of ours repeats with each change it asks for."""
    return spell(hmac.digest(secret.encode(), labels.REQUEST_TOKEN, "sha256"))


def _key(secret: str) -> bytes:
    return decode_base64url(secret)


def _subject(row: SessionRow) -> Subject:
    return Subject(row.controller_id, "", "", 0, 0)
