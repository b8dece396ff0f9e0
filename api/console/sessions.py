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

import hashlib
import hmac
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from api.auth import ID_TOKEN_TYPES, Authenticator
from api.claims import LEEWAY_S, check_id_claims
from api.console import session_rows as rows
from api.console.login import LogIn, spell
from api.console.provider import Provider
from api.console.session_rows import SessionRow
from api.errors import IssuerUnavailable, LogInFailed, Unauthenticated
from api.jwk import decode_base64url
from core.db import Database
from core.errors import IntegrityFailure
from core.ports import Clock
from core.scope import for_all_controllers
from keys import labels
from keys.model import Subject
from keys.wrap import NONCE_BYTES, open_message, seal_message
from vault.access import Actor

SECRET_BYTES: Final = 32
OFFER_S: Final = 300
EMBEDDED_MAX_S: Final = 3_600
TOUCH_S: Final = 60
TURN: Final = timedelta(seconds=6)
_POLL_S: Final = 0.05
_SECRET: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_DROPPED: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "jti"})


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
class _Known:
    """What a session knows, as it is sealed."""

    claims: Mapping[str, Any] = field(repr=False)
    refresh_token: str = field(repr=False)


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
        claims = self._checked(tokens.id_token)
        nonce = claims.get("nonce")
        if not isinstance(nonce, str) or not hmac.compare_digest(nonce, begun.nonce):
            raise LogInFailed(reason="nonce")
        self._check_age(claims, begun.max_age_s)
        kept = _Known(_without_bindings(claims), tokens.refresh_token)
        expires_at = self.clock.now() + timedelta(seconds=self.rules.max_s)
        fresh_until = self._fresh_until(claims)
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
            rows.insert(self.database, self._sealed(row, secret, _Known(claims, "")))
        return secret

    def enter(self, code: str, *, previous: str) -> Opened:
        """Turn an offered code into a session; the code is worth nothing afterwards.

        Raises:
            LogInFailed: unknown, used, or too old.
        """
        row = self._find(code)
        if row is None or row.kind != "offer" or row.expires_at <= self.clock.now():
            raise LogInFailed(reason="link")
        known = self._known(row, code)
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
        row = self._find(secret)
        if row is None or row.kind != "session" or self._is_over(row, now):
            raise Unauthenticated(reason="session-ended")
        known = self._known(row, secret)
        if now >= row.fresh_until:
            known = self._renewed(row, secret, known)
        if now - row.seen_at >= timedelta(seconds=TOUCH_S):
            with for_all_controllers():
                rows.touch(self.database, row.secret_sha256, now)
        return self.authenticator.actor(known.claims)

    def whose(self, secret: str) -> Actor | None:
        """Return whose session this is or was, without asking the issuer: enough to end things.

        Raises:
            Unauthenticated: its row does not open, or its controller is gone.
        """
        row = self._find(secret)
        if row is None or row.kind != "session":
            return None
        return self.authenticator.actor(self._known(row, secret).claims)

    def end(self, secret: str) -> None:
        """End a session, here and at the provider as far as it listens; repeats are fine."""
        row = self._find(secret)
        if row is None:
            return
        refresh_token = ""
        if row.kind == "session":
            refresh_token = self._known(row, secret).refresh_token
        with for_all_controllers():
            rows.delete(self.database, row.secret_sha256)
        if self.provider is not None and refresh_token:
            self.provider.revoke(refresh_token)

    def _open(
        self,
        known: _Known,
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
            if not rows.insert(self.database, self._sealed(row, secret, known)):
                raise LogInFailed(reason="used-before")
        return Opened(secret, actor, expires_at)

    def _drop(self, secret: str) -> None:
        """End the browser's earlier session here alone: at the provider the new one goes on."""
        if _SECRET.fullmatch(secret):
            with for_all_controllers():
                rows.delete(self.database, fingerprint(secret))

    def _renewed(self, row: SessionRow, secret: str, known: _Known) -> _Known:
        """Ask the issuer again; one request does, the others wait for what it learns."""
        if self.provider is None or not known.refresh_token:
            raise Unauthenticated(reason="session-ended")
        with for_all_controllers():
            mine = rows.take_turn(self.database, row, now=self.clock.now(), turn=TURN)
        if not mine:
            return self._learnt_elsewhere(row, secret)
        try:
            tokens = self.provider.refresh(known.refresh_token)
            claims = self._checked(tokens.id_token, subject=known.claims["sub"])
        except (LogInFailed, Unauthenticated) as err:
            with for_all_controllers():
                rows.delete(self.database, row.secret_sha256)
            raise Unauthenticated(reason="session-ended") from err
        except IssuerUnavailable:
            with for_all_controllers():
                rows.give_turn_back(self.database, row.secret_sha256)
            raise
        kept = _Known(_without_bindings({**known.claims, **claims}, claims), tokens.refresh_token)
        with for_all_controllers():
            rows.renew(
                self.database,
                self._sealed(row, secret, kept),
                fresh_until=self._fresh_until(claims),
            )
        return kept

    def _learnt_elsewhere(self, row: SessionRow, secret: str) -> _Known:
        """Wait for the request that asks the issuer."""
        deadline_s = self.clock.boottime_s() + TURN.total_seconds()
        while self.clock.boottime_s() < deadline_s:
            time.sleep(_POLL_S)
            found = self._find(secret)
            if found is None:
                raise Unauthenticated(reason="session-ended")
            if found.fresh_until > row.fresh_until:
                return self._known(found, secret)
        raise IssuerUnavailable

    def _checked(self, id_token: str, *, subject: str | None = None) -> Mapping[str, Any]:
        claims = self.authenticator.genuine_claims(id_token, ID_TOKEN_TYPES)
        client_id = "" if self.provider is None else self.provider.client.id
        check_id_claims(claims, self.authenticator.rules, client_id=client_id, now=self.clock.now())
        if subject is not None and claims["sub"] != subject:
            raise LogInFailed(reason="subject")
        return claims

    def _check_age(self, claims: Mapping[str, Any], max_age_s: int) -> None:
        """Refuse an authentication that is older than was asked for, or of unknown age."""
        at = claims.get("auth_time")
        if type(at) is not int or self.clock.now().timestamp() - at > max_age_s + LEEWAY_S:
            raise LogInFailed(reason="auth-time")

    def _fresh_until(self, claims: Mapping[str, Any]) -> datetime:
        ends = datetime.fromtimestamp(claims["exp"], tz=UTC)
        return min(ends, self.clock.now() + timedelta(seconds=self.rules.refresh_s))

    def _is_over(self, row: SessionRow, now: datetime) -> bool:
        return now >= min(row.expires_at, row.seen_at + timedelta(seconds=self.rules.idle_s))

    def _is_used(self, begun: LogIn) -> bool:
        with for_all_controllers():
            return rows.of_log_in(self.database, begun.fingerprint)

    def _find(self, secret: str) -> SessionRow | None:
        if not _SECRET.fullmatch(secret):
            return None
        with for_all_controllers():
            return rows.find(self.database, fingerprint(secret))

    def _sealed(self, row: SessionRow, secret: str, known: _Known) -> SessionRow:
        clear = json.dumps({"claims": known.claims, "refresh": known.refresh_token}).encode()
        nonce = self.clock.random_bytes(NONCE_BYTES)
        label = labels.BROWSER_SESSION
        return row.sealing(
            seal_message(
                _key(secret), label, _subject(row), clear, nonce, context=row.secret_sha256
            )
        )

    def _known(self, row: SessionRow, secret: str) -> _Known:
        label = labels.BROWSER_SESSION
        try:
            clear = open_message(
                _key(secret), label, _subject(row), row.sealed, context=row.secret_sha256
            )
        except (IntegrityFailure, ValueError) as err:
            raise Unauthenticated(reason="session-ended") from err
        said = json.loads(clear)
        return _Known(said["claims"], said["refresh"])


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


def _without_bindings(
    claims: Mapping[str, Any], newest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is kept of an ID token; what a newer one leaves out about rights is gone."""
    kept = {name: value for name, value in claims.items() if name not in _DROPPED}
    if newest is None:
        return kept
    of_log_in = {"auth_time", "acr", "amr", "sid"}
    return {name: value for name, value in kept.items() if name in newest or name in of_log_in}
