"""An OpenID Connect issuer on the loopback, as small as one can be: a key, and who says so."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.fakes.tokens import AUDIENCE, SigningKey, curve_key, good_header, jwks

ACR = "urn:mfa"


@dataclass(frozen=True)
class LoopbackIssuer:
    """Signs what it is asked to; a service fetches its public key over HTTP."""

    url: str
    key: SigningKey

    def headers(self, *roles: str, subject: str, controller: str) -> dict[str, str]:
        """Return the ``Authorization`` header of a token that is good for ten minutes."""
        now_s = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": subject,
            "iat": now_s - 1,
            "exp": now_s + 600,
            "auth_time": now_s - 1,
            "acr": ACR,
            "roles": list(roles),
            "controller": controller,
            "campaigns": ["*"],
        }
        return {"Authorization": f"Bearer {self.key.token(good_header(self.key), claims)}"}


@contextmanager
def loopback_issuer() -> Iterator[LoopbackIssuer]:
    """Run an issuer; it answers with its configuration and its one key."""
    key = curve_key("ec-loopback")

    class Documents(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = f"http://127.0.0.1:{server.server_port}"
            documents = {
                "/.well-known/openid-configuration": json.dumps(
                    {"issuer": url, "jwks_uri": f"{url}/keys"}
                ).encode(),
                "/keys": jwks(key),
            }
            body = documents.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Documents)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield LoopbackIssuer(f"http://127.0.0.1:{server.server_port}", key)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
