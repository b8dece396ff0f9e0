"""The OpenID provider as a browser log-in needs it: where to send people, what a code is worth.

Everything is fetched from the issuer's own host, without redirects, 64 KiB and 3 s at most
(``api.documents``). The discovery document is read again every 10 minutes; an address in it that
lies on another host makes all of it unusable.

Source: OpenID Connect Core 1.0 section 3.1, Discovery 1.0, RP-Initiated Logout 1.0; RFC 7636
(PKCE); RFC 9207 (the issuer names itself in the answer); RFC 7009 (revocation).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from api.errors import IssuerUnavailable, LogInFailed
from api.jwk import DEPTH_MAX
from api.ports import DocumentFetcher, FormPoster
from api.settings_text import is_loopback
from api.strict_json import parse_object
from core.ports import Clock

CACHE_S: Final = 600.0
RETRY_S: Final = 5.0
TOKEN_MAX_CHARACTERS: Final = 8_192
AT_ONCE: Final = 16
_REFUSALS: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED})


@dataclass(frozen=True)
class Endpoints:
    """Addresses of the provider; "" where it has none.

    Attributes:
        names_itself: it promises ``iss`` in its answers (RFC 9207), so one without is refused.
    """

    authorization: str
    token: str
    end_session: str
    revocation: str
    names_itself: bool


@dataclass(frozen=True)
class Tokens:
    """What a code or a refresh token was worth; neither ever reaches the browser."""

    id_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


@dataclass(frozen=True)
class Client:
    """Who we are at the provider.

    Attributes:
        secret: "" for a client that has none: PKCE alone then binds the code to us.
    """

    id: str
    secret: str = field(repr=False)
    scopes: str
    redirect_uri: str


@dataclass(frozen=True)
class AuthorizationRequest:
    """One log-in as it is asked for."""

    state: str
    nonce: str
    challenge: str
    max_age_s: int
    acr_values: str = ""


@dataclass
class Provider:
    """Talks to one provider; thread-safe."""

    issuer: str
    client: Client
    documents: DocumentFetcher
    forms: FormPoster
    clock: Clock
    _endpoints: Endpoints | None = None
    _asked_s: float = float("-inf")
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _turns: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(AT_ONCE), repr=False
    )

    def authorization_url(self, asked: AuthorizationRequest) -> str:
        """Return where to send the browser.

        Raises:
            IssuerUnavailable: the provider's addresses cannot be had.
        """
        query = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": self.client.redirect_uri,
            "scope": self.client.scopes,
            "state": asked.state,
            "nonce": asked.nonce,
            "code_challenge": asked.challenge,
            "code_challenge_method": "S256",
            "max_age": str(asked.max_age_s),
        }
        if asked.acr_values:
            query["acr_values"] = asked.acr_values
        return f"{self.endpoints().authorization}?{urlencode(query)}"

    def end_session_url(self, back_to: str) -> str:
        """Return where to send the browser to end its session there too, "" if nowhere."""
        with contextlib.suppress(IssuerUnavailable):
            where = self.endpoints().end_session
            if where:
                query = {"client_id": self.client.id, "post_logout_redirect_uri": back_to}
                return f"{where}?{urlencode(query)}"
        return ""

    def check_answering(self, named: str | None) -> None:
        """Refuse an answer that another issuer sent, or that should name its issuer and does not.

        Raises:
            LogInFailed, IssuerUnavailable.
        """
        if named is None and not self.endpoints().names_itself:
            return
        if named != self.issuer:
            raise LogInFailed(reason="issuer")

    def redeem(self, code: str, verifier: str) -> Tokens:
        """Return what a code is worth; a second time it is worth nothing.

        Raises:
            LogInFailed: the provider refuses the code. IssuerUnavailable.
        """
        return self._tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.client.redirect_uri,
                "code_verifier": verifier,
            }
        )

    def refresh(self, refresh_token: str) -> Tokens:
        """Ask again who somebody is, and what they may do now.

        Raises:
            LogInFailed: the provider does not vouch for them any more. IssuerUnavailable.
        """
        found = self._tokens({"grant_type": "refresh_token", "refresh_token": refresh_token})
        return Tokens(found.id_token, found.refresh_token or refresh_token)

    def revoke(self, refresh_token: str) -> None:
        """Tell the provider that a refresh token is not wanted any more; best effort."""
        with contextlib.suppress(OSError, IssuerUnavailable):
            where = self.endpoints().revocation
            if where and refresh_token:
                self._post(where, {"token": refresh_token, "token_type_hint": "refresh_token"})

    def endpoints(self) -> Endpoints:
        """Return the provider's addresses.

        Raises:
            IssuerUnavailable: they were never read, and cannot be read now.
        """
        known = self._endpoints
        if not self._is_due():
            if known is None:
                raise IssuerUnavailable
            return known
        if known is not None and self._lock.locked():
            return known  # another thread is at it
        if not self._turns.acquire(blocking=False):
            raise IssuerUnavailable
        try:
            with self._lock:
                if self._is_due():
                    self._look()
        finally:
            self._turns.release()
        if self._endpoints is None:
            raise IssuerUnavailable
        return self._endpoints

    def _is_due(self) -> bool:
        age_s = self.clock.boottime_s() - self._asked_s
        return age_s > (CACHE_S if self._endpoints else RETRY_S)

    def _look(self) -> None:
        """Read the document; a failure keeps the addresses that are known."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            self._endpoints = self._discover()
        self._asked_s = self.clock.boottime_s()

    def _discover(self) -> Endpoints:
        where = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        said = parse_object(self.documents.get(where), depth_max=DEPTH_MAX)
        methods = said.get("code_challenge_methods_supported", ["S256"])
        needed = said.get("authorization_endpoint") and said.get("token_endpoint")
        if said.get("issuer") != self.issuer or "S256" not in methods or not needed:
            raise ValueError("not the issuer's own document, no PKCE, or nowhere to go")
        return Endpoints(
            authorization=self._own(said["authorization_endpoint"]),
            token=self._own(said["token_endpoint"]),
            end_session=self._own(said.get("end_session_endpoint", "")),
            revocation=self._own(said.get("revocation_endpoint", "")),
            names_itself=said.get("authorization_response_iss_parameter_supported") is True,
        )

    def _own(self, found: object) -> str:
        """Return an address of the issuer's own host.

        Raises:
            ValueError: it is another host's, not https, or already has a query.
        """
        if found == "":
            return ""
        if not isinstance(found, str):
            raise ValueError("no address")  # noqa: TRY004 - one kind of refusal
        ours, theirs = urlsplit(self.issuer), urlsplit(found)
        secure = theirs.scheme == "https" or is_loopback(theirs.hostname or "")
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc) or not secure:
            raise ValueError("an address on another host")
        if theirs.query or theirs.fragment:
            raise ValueError("an address with a query")
        return found

    def _tokens(self, fields: Mapping[str, str]) -> Tokens:
        try:
            status, body = self._post(self.endpoints().token, fields)
            said = parse_object(body, depth_max=DEPTH_MAX)
        except (OSError, ValueError) as err:
            raise IssuerUnavailable from err
        if status in _REFUSALS:
            raise LogInFailed(reason="code")
        if status != HTTPStatus.OK:
            raise IssuerUnavailable
        return Tokens(_text(said, "id_token"), _text(said, "refresh_token"))

    def _post(self, where: str, fields: Mapping[str, str]) -> tuple[int, bytes]:
        """Send a form; of all requests a few at a time.

        Anybody can come back with a code of their own making, and a slow provider would then hold
        every thread.
        """
        if not self._turns.acquire(blocking=False):
            raise IssuerUnavailable
        client = self.client
        try:
            if client.secret:
                return self.forms.post(where, fields, (client.id, client.secret))
            return self.forms.post(where, {**fields, "client_id": client.id})
        finally:
            self._turns.release()


def _text(said: Mapping[str, Any], name: str) -> str:
    found = said.get(name, "")
    if not isinstance(found, str) or len(found) > TOKEN_MAX_CHARACTERS:
        raise IssuerUnavailable
    return found
