"""One log-in on its way: everything about it is derived from a secret that only the browser has.

    cookie    secret 43 | "." | seconds since 1970 | "." | max_age | "." | recording id or ""
    state, nonce, code verifier    base64url(HMAC-SHA256(secret, label | purpose | rest of cookie))

So nothing is stored for people who only come by, and an answer of the provider that another
browser asked for, or that was asked for long ago, fits no cookie: that is what stands against
forged log-ins. What the cookie says besides its secret is bound to the state.

Source: RFC 6749 section 10.12; RFC 7636; OpenID Connect Core 1.0 section 3.1.2.1.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from api.console.provider import AuthorizationRequest
from api.errors import LogInFailed
from core import ids
from core.errors import InvalidRequest
from keys import labels

CALLBACK: Final = "/console/callback"
SECRET_BYTES: Final = 32
LIFETIME_S: Final = 600
_COOKIE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([0-9]{1,12})\.([0-9]{1,6})\.([a-z0-9_]{0,30})")


@dataclass(frozen=True)
class LogIn:
    """A log-in that was begun in one browser.

    Attributes:
        secret: 43 characters of base64url. begun_s: seconds since 1970.
        max_age_s: how old the person's last authentication may be.
        recording_id: what they wanted to hear, or "".
    """

    secret: str = field(repr=False)
    begun_s: int
    max_age_s: int
    recording_id: str = ""

    @classmethod
    def begin(
        cls, random: bytes, *, now: datetime, max_age_s: int, recording_id: str = ""
    ) -> LogIn:
        """Begin one.

        Args:
            random: 32 fresh random bytes.
            now: aware UTC.
            max_age_s: see the class.
            recording_id: see the class.

        Raises:
            InvalidRequest: ``recording_id`` is something else; an address least of all.
        """
        if recording_id and not ids.is_id(recording_id, "rec_"):
            raise InvalidRequest(what="recording")
        return cls(spell(random), int(now.timestamp()), max_age_s, recording_id)

    @classmethod
    def read(cls, cookie: str, *, now: datetime) -> LogIn:
        """Read it back out of the browser's cookie.

        Raises:
            LogInFailed: there is none, it is malformed, or older than 10 minutes.
        """
        found = _COOKIE.fullmatch(cookie)
        if not found or (found[4] and not ids.is_id(found[4], "rec_")):
            raise LogInFailed(reason="not-begun-here")
        read = cls(found[1], int(found[2]), int(found[3]), found[4])
        if not 0 <= now.timestamp() - read.begun_s <= LIFETIME_S:
            raise LogInFailed(reason="too-late")
        return read

    @property
    def cookie(self) -> str:
        """Return what the browser keeps for the time of the log-in."""
        return f"{self.secret}.{self._rest}"

    @property
    def state(self) -> str:
        """Return what the provider hands back."""
        return self._derived(b"state")

    @property
    def nonce(self) -> str:
        """Return what the ID token must repeat."""
        return self._derived(b"nonce")

    @property
    def verifier(self) -> str:
        """Return what shows that the code's redeemer is who asked for it."""
        return self._derived(b"verifier")

    @property
    def fingerprint(self) -> bytes:
        """Return the 32 bytes by which a session remembers the log-in it came from."""
        return hashlib.sha256(labels.LOG_IN + self.secret.encode()).digest()

    def request(self, *, acr_values: str) -> AuthorizationRequest:
        """Return what the provider is asked."""
        challenge = hashlib.sha256(self.verifier.encode()).digest()
        return AuthorizationRequest(
            state=self.state,
            nonce=self.nonce,
            challenge=spell(challenge),
            max_age_s=self.max_age_s,
            acr_values=acr_values,
        )

    def check_state(self, state: str) -> None:
        """Refuse an answer that belongs to another log-in.

        Raises:
            LogInFailed.
        """
        if not hmac.compare_digest(state.encode(), self.state.encode()):
            raise LogInFailed(reason="state")

    @property
    def _rest(self) -> str:
        return f"{self.begun_s}.{self.max_age_s}.{self.recording_id}"

    def _derived(self, purpose: bytes) -> str:
        message = labels.LOG_IN + purpose + b"|" + self._rest.encode()
        return spell(hmac.digest(self.secret.encode(), message, "sha256"))


def spell(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
