"""Browser sessions: a cookie of 256 bits, a row that any replica reads, and nothing to steal.

    cookie     base64url of 32 random bytes, ``__Host-``, HttpOnly, Secure, SameSite=Strict
    row        SHA-256 of it; what the session knows, sealed under a key made from the cookie
    page       a request token, HMAC-SHA256(cookie, label), which no other site can read

What a session knows is what the issuer's ID token said, and the refresh token with which the
issuer is asked again after ``refresh_s``: a role that was taken away is gone by then, and whoever
the issuer no longer vouches for is out. No token is ever in the browser, none in clear at rest.

A session ends by log-out, after ``idle_s`` without a request, and after ``max_s`` in any case; it
is new after every log-in. While the issuer does not answer, what it said serves until it is due
again, and then nobody is let in.

Does not protect against: whoever can run programs in the person's browser.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from api.auth import Authenticator
from api.console import session_rows as rows
from api.console.issuers_word import IssuersWord, without_bindings
from api.console.login import LogIn, spell
from api.console.provider import Provider
from api.console.session_renewal import Renewal
from api.console.session_rows import SessionRow
from api.console.session_seal import SECRET, Known, find_by_secret, fingerprint, known_of, sealed
from api.errors import LogInFailed, Unauthenticated
from core.db import Database
from core.ports import Clock
from core.scope import for_all_controllers
from vault.access import Actor

SECRET_BYTES: Final = 32
OFFER_S: Final = 300
EMBEDDED_MAX_S: Final = 3_600
TOUCH_S: Final = 60


@dataclass(frozen=True)
class SessionRules:
    """How long a session lives, in seconds."""

    idle_s: int
    max_s: int
    refresh_s: int


@dataclass(frozen=True)
class Opened:
    """A session that has just begun; the secret is nowhere else."""

    secret: str = field(repr=False)
    actor: Actor
    expires_at: datetime


@dataclass(frozen=True)
class BrowserSessions:
    """Opens, recognises, renews and ends sessions."""

    database: Database
    clock: Clock
    authenticator: Authenticator
    provider: Provider | None
    rules: SessionRules

    def log_in(self, begun: LogIn, code: str, *, previous: str) -> Opened:
        """Turn a provider's code into a session; the browser's earlier one ends.

        Raises:
            LogInFailed: used before, or not what this browser asked for.
            Unauthenticated: the ID token does not pass the gate. IssuerUnavailable.
        """
        if self.provider is None:
            raise LogInFailed(reason="no-provider")
        if self._is_used(begun):
            raise LogInFailed(reason="used-before")
        tokens = self.provider.redeem(code, begun.verifier)
        claims = self._word.checked(tokens.id_token)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce, begun.nonce):
            raise LogInFailed(reason="nonce")
        self._word.check_age(claims, begun.max_age_s)
        kept = Known(without_bindings(claims), tokens.refresh_token)
        expires_at = self.clock.now() + timedelta(seconds=self.rules.max_s)
        fresh_until = self._word.fresh_until(claims)
        if not tokens.refresh_token:
            expires_at = min(expires_at, fresh_until)
        return self._open(
            kept,
            begun.fingerprint,
            fresh_until=fresh_until,
            expires_at=expires_at,
            previous=previous,
        )

    def offer(self, claims: Mapping[str, Any]) -> str:
        """Return a code that ``enter`` turns into a session once, within 5 minutes.

        For the embedded issuer only, which has no page to log in at.
        """
        now = self.clock.now()
        secret = spell(self.clock.random_bytes(SECRET_BYTES))
        row = SessionRow(
            secret_sha256=fingerprint(secret),
            kind="offer",
            controller_id=self.authenticator.actor(claims).controller_id,
            actor_id=self.authenticator.actor(claims).id,
            login_sha256=fingerprint(secret),
            created_at=now,
            seen_at=now,
            expires_at=now + timedelta(seconds=OFFER_S),
            fresh_until=now + timedelta(seconds=OFFER_S),
            sealed=b"",
        )
        with for_all_controllers():
            rows.insert(self.database, sealed(row, secret, Known(claims, ""), self.clock))
        return secret

    def enter(self, code: str, *, previous: str) -> Opened:
        """Turn an offered code into a session; the code is worth nothing afterwards.

        Raises:
            LogInFailed: unknown, used, or too old.
        """
        row = find_by_secret(self.database, code)
        if row is None or row.kind != "offer" or row.expires_at <= self.clock.now():
            raise LogInFailed(reason="link")
        known = known_of(row, code)
        with for_all_controllers():
            if not rows.delete(self.database, row.secret_sha256):
                raise LogInFailed(reason="link")
        until = self.clock.now() + timedelta(seconds=min(self.rules.max_s, EMBEDDED_MAX_S))
        return self._open(
            known, row.login_sha256, fresh_until=until, expires_at=until, previous=previous
        )

    def recognise(self, secret: str) -> Actor:
        """Return whose session this is, asking the issuer again when that is due.

        Raises:
            Unauthenticated: no such session, or it has ended. IssuerUnavailable.
        """
        now = self.clock.now()
        row = find_by_secret(self.database, secret)
        if row is None or row.kind != "session" or self._is_over(row, now):
            raise Unauthenticated(reason="session-ended")
        known = known_of(row, secret)
        if now >= row.fresh_until:
            known = self._renewal.renewed(row, secret, known)
        if now - row.seen_at >= timedelta(seconds=TOUCH_S):
            with for_all_controllers():
                rows.touch(self.database, row.secret_sha256, now)
        return self.authenticator.actor(known.claims)

    def whose(self, secret: str) -> Actor | None:
        """Return whose session this is or was, without asking the issuer: enough to end things.

        Raises:
            Unauthenticated: its row does not open, or its controller is gone.
        """
        row = find_by_secret(self.database, secret)
        if row is None or row.kind != "session":
            return None
        return self.authenticator.actor(known_of(row, secret).claims)

    def end(self, secret: str) -> None:
        """End a session, here and at the provider as far as it listens; repeats are fine."""
        row = find_by_secret(self.database, secret)
        if row is None:
            return
        refresh_token = ""
        if row.kind == "session":
            refresh_token = known_of(row, secret).refresh_token
        with for_all_controllers():
            rows.delete(self.database, row.secret_sha256)
        if self.provider is not None and refresh_token:
            self.provider.revoke(refresh_token)

    def _open(
        self,
        known: Known,
        login_sha256: bytes,
        *,
        fresh_until: datetime,
        expires_at: datetime,
        previous: str,
    ) -> Opened:
        actor = self.authenticator.actor(known.claims)
        if actor.kind != "person":
            raise LogInFailed(reason="not-a-person")
        self._drop(previous)
        now = self.clock.now()
        secret = spell(self.clock.random_bytes(SECRET_BYTES))
        row = SessionRow(
            secret_sha256=fingerprint(secret),
            kind="session",
            controller_id=actor.controller_id,
            actor_id=actor.id,
            login_sha256=login_sha256,
            created_at=now,
            seen_at=now,
            expires_at=expires_at,
            fresh_until=fresh_until,
            sealed=b"",
        )
        with for_all_controllers():
            if not rows.insert(self.database, sealed(row, secret, known, self.clock)):
                raise LogInFailed(reason="used-before")
        return Opened(secret, actor, expires_at)

    def _drop(self, secret: str) -> None:
        """End the browser's earlier session here alone: at the provider the new one goes on."""
        if SECRET.fullmatch(secret):
            with for_all_controllers():
                rows.delete(self.database, fingerprint(secret))

    def _is_over(self, row: SessionRow, now: datetime) -> bool:
        return now >= min(row.expires_at, row.seen_at + timedelta(seconds=self.rules.idle_s))

    def _is_used(self, begun: LogIn) -> bool:
        with for_all_controllers():
            return rows.of_log_in(self.database, begun.fingerprint)

    @property
    def _word(self) -> IssuersWord:
        return IssuersWord(self.authenticator, self.provider, self.clock, self.rules.refresh_s)

    @property
    def _renewal(self) -> Renewal:
        return Renewal(self.database, self.clock, self._word)
