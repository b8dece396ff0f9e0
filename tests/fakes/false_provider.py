"""An OpenID provider that a test tells what to say: the issuer's side of a browser log-in."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

from core.clock import SystemClock
from tests.composition import Made, build_service, running_server
from tests.fakes.tokens import ISSUER, fixed_keys, keys
from tests.fakes.visitor import Visitor

CLIENT: Final = "vault-ui"
_ORIGIN: Final = "https://login.example.test"


class ForwardClock(SystemClock):
    """The real clocks; a test moves the wall clock on."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> Any:
        return super().now() + self.ahead

    def forward(self, seconds: float) -> None:
        self.ahead += timedelta(seconds=seconds)


@dataclass
class FalseProvider:
    """Answers documents and forms; ``says`` changes claims of the next ID tokens.

    Attributes:
        down: nothing answers. document: changes of the discovery document.
        says: changes of the claims; None leaves one out. refuses: refresh tokens are worth nothing.
    """

    clock: ForwardClock = field(default_factory=ForwardClock)
    down: bool = False
    refuses: bool = False
    document: dict[str, Any] = field(default_factory=dict)
    says: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    raw: tuple[int, bytes] | None = None
    forms: list[dict[str, str]] = field(default_factory=list)
    codes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    nonces: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, uri: str) -> bytes:
        if self.down:
            raise OSError("down")
        assert uri == f"{ISSUER}/.well-known/openid-configuration"
        made = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{_ORIGIN}/auth",
            "token_endpoint": f"{_ORIGIN}/token",
            "end_session_endpoint": f"{_ORIGIN}/end",
            "revocation_endpoint": f"{_ORIGIN}/revoke",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return json.dumps(made | self.document).encode()

    def post(
        self, uri: str, fields: Mapping[str, str], basic: tuple[str, str] | None = None
    ) -> tuple[int, bytes]:
        assert basic is None
        assert fields["client_id"] == CLIENT
        with self._lock:
            if self.down:
                raise OSError("down")
            self.forms.append(dict(fields))
            if uri.endswith("/revoke"):
                return 200, b""
            if self.raw is not None:
                return self.raw
            return self._tokens(fields)

    def agree(self, asked_url: str, **changes: str | None) -> str:
        """Let the person agree; return what the browser is sent back to."""
        parts = urlsplit(asked_url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{_ORIGIN}/auth"
        asked = {name: found[0] for name, found in parse_qs(parts.query).items()}
        code = f"code-{len(self.codes)}"
        self.codes[code] = asked
        said = {"code": code, "state": asked["state"], "iss": ISSUER} | changes
        query = urlencode({name: value for name, value in said.items() if value is not None})
        return f"{asked['redirect_uri']}?{query}"

    def id_token(self, nonce: str) -> str:
        now_s = int(self.clock.now().timestamp())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": CLIENT,
            "sub": "quinn",
            "iat": now_s,
            "exp": now_s + 300,
            "auth_time": now_s,
            "nonce": nonce,
            "roles": ["quality-manager"],
            "controller": "acme",
            "campaigns": ["*"],
            "company": "acme",
        } | self.says
        key = keys()["ec-1"]
        header = {"alg": "ES256", "kid": "ec-1"} | self.header
        return key.token(header, {name: one for name, one in claims.items() if one is not None})

    def _tokens(self, fields: Mapping[str, str]) -> tuple[int, bytes]:
        if fields["grant_type"] == "refresh_token":
            nonce = self.nonces.pop(fields["refresh_token"], None)
        else:
            nonce = self._redeemed(fields)
        if nonce is None or (self.refuses and fields["grant_type"] == "refresh_token"):
            return 400, b'{"error":"invalid_grant"}'
        fresh = f"refresh-{len(self.forms)}"
        self.nonces[fresh] = nonce
        said = {"id_token": self.id_token(nonce), "refresh_token": fresh, "token_type": "Bearer"}
        return 200, json.dumps(said).encode()

    def _redeemed(self, fields: Mapping[str, str]) -> str | None:
        asked = self.codes.pop(fields["code"], None)
        if asked is None or asked["redirect_uri"] != fields["redirect_uri"]:
            return None
        digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        return asked["nonce"] if challenge == asked["code_challenge"] else None


@dataclass(frozen=True)
class FalseRoom:
    """A running service that believes this provider."""

    made: Made
    url: str
    provider: FalseProvider

    def begin_anew(self) -> None:
        """Let the provider be honest again, and the service look at it anew."""
        fresh = FalseProvider()
        for name in ("down", "refuses", "document", "says", "header", "raw"):
            setattr(self.provider, name, getattr(fresh, name))
        known = self.made.service.browser_sessions.provider
        assert known is not None
        known._endpoints = None
        known._asked_s = float("-inf")


def answer_of(room: FalseRoom, visitor: Visitor, **changes: str | None) -> str:
    """Begin a log-in and let the provider agree; return the address it answers at."""
    began = visitor.get("/console/login")
    assert began.status_code == 303, began.text
    return room.provider.agree(began.headers["location"], **changes)


def log_in(room: FalseRoom, visitor: Visitor) -> httpx2.Response:
    """Log in honestly."""
    return visitor.get(answer_of(room, visitor))


@contextmanager
def open_false_room(folder: Path, **settings: str) -> Iterator[FalseRoom]:
    """Serve an empty vault whose people log in at a ``FalseProvider``."""
    provider = FalseProvider()
    given = {"OIDC_ISSUER": ISSUER, "OIDC_CLIENT_ID": CLIENT} | settings
    made = build_service(folder, settings=given, clock=provider.clock)
    sessions = made.service.browser_sessions
    assert sessions.provider is not None
    sessions.provider.documents = sessions.provider.forms = provider
    object.__setattr__(made.service.authenticator, "keys", fixed_keys())
    with running_server(made.service) as url:
        yield FalseRoom(made, url, provider)
