"""A ticket: one granted listen, its limits, and what was really delivered under it.

The ticket is 256 random bits that stand in the audio address; a browser gets a second secret as a
cookie bound to it. Only their SHA-256 is stored, so a copy of the database opens nothing.

Does not protect against: a listener who records what the loudspeaker plays.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

TICKET_BYTES: Final = 32
LIFETIME_MIN: Final = timedelta(minutes=15)
LIFETIME_MAX: Final = timedelta(hours=4)
LIFETIME_MARGIN: Final = timedelta(minutes=2)
BUDGET_FACTOR: Final = 3
BUDGET_EXTRA_BYTES: Final = 16 * 1024 * 1024
PARALLEL_MAX: Final = 2

TicketState = Literal["open", "closed", "expired", "revoked"]
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class GrantedListen:
    """What a listener receives once; the secrets are nowhere else.

    Attributes:
        cookie: "" when the listen is not bound to a browser.
    """

    id: str
    recording_id: str
    ticket: str
    cookie: str
    expires_at: datetime
    entry_id: str
    leaf_hash: bytes


def lifetime(duration_ms: int) -> timedelta:
    """Return how long a ticket lives: long enough to hear the call twice, at most 4 hours."""
    wanted = 2 * timedelta(milliseconds=duration_ms) + LIFETIME_MARGIN
    return min(max(LIFETIME_MIN, wanted), LIFETIME_MAX)


def byte_budget(clear_bytes: int) -> int:
    """Return how many clear bytes may be sent in all under one ticket, seeks included."""
    return max(BUDGET_FACTOR * clear_bytes, clear_bytes + BUDGET_EXTRA_BYTES)


def spell(secret: bytes) -> str:
    """Return a secret as base64url without padding."""
    return base64.urlsafe_b64encode(secret).rstrip(b"=").decode()


def fingerprint(secret: str) -> bytes:
    """Return the 32 bytes that are stored instead of a secret; b"" for no secret at all."""
    return hashlib.sha256(secret.encode()).digest() if secret else b""


def matches(secret: str, stored: bytes) -> bool:
    """Compare a presented secret with a stored fingerprint in constant time."""
    return hmac.compare_digest(fingerprint(secret), stored)


def merged(spans: Spans, first: int, last: int) -> Spans:
    """Return ``spans`` with the inclusive byte span ``first..last`` added, sorted and disjoint."""
    result: list[tuple[int, int]] = []
    for start, end in sorted((*spans, (first, last))):
        if result and start <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        else:
            result.append((start, end))
    return tuple(result)


def unique_bytes(spans: Spans) -> int:
    """Return how many different bytes the spans cover."""
    return sum(last - first + 1 for first, last in spans)


def delivered_ms(spans: Spans, *, clear_bytes: int, duration_ms: int) -> int:
    """Return the playing time of the unique bytes delivered, in milliseconds.

    Exact for constant bit rates, an estimate for variable ones; the entry says which.
    """
    if clear_bytes == 0:
        return 0
    return unique_bytes(spans) * duration_ms // clear_bytes
