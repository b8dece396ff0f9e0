"""A canary upload through the public address: does anything on the way keep a body back?

A proxy that spools a deposit writes a call in clear onto its own disk. So a deposit is begun at
``PUBLIC_URL`` without credentials, and its body is held back after the first 16 KiB. Where nothing
spools, the service refuses it within 2 s (401 ``unauthenticated``); a proxy that waits for the
whole body says nothing. No audio is sent and nothing is kept.

Does not protect against: a proxy that passes bodies on and copies them too.
"""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPException, HTTPResponse
from typing import Final
from urllib.parse import urlsplit

from api.finding import Finding

WAIT_S: Final = 8.0
_BODY_BYTES: Final = 1024 * 1024
_SENT_BYTES: Final = 16 * 1024
_PATH: Final = "/v1/campaigns/canary/recordings/canary"
_HTTPS: Final = 443
_HTTP: Final = 80
_REFUSED: Final = 401


def canary_finding(public_url: str, *, wait_s: float = WAIT_S) -> Finding:
    """Send the canary and tell what became of it."""
    try:
        with _connected(public_url, wait_s) as connection:
            connection.sendall(_head(public_url) + bytes(_SENT_BYTES))
            answer = HTTPResponse(connection)
            answer.begin()
            status, kind = answer.status, answer.headers.get_content_type()
    except TimeoutError:
        text = f"{public_url}: a deposit is kept on the way until all of it is there (spooled)"
        return Finding("fail", "canary", text)
    except (OSError, HTTPException) as err:
        text = f"{public_url} gives no answer ({type(err).__name__}): nothing is known of proxies"
        return Finding("warn", "canary", text)
    if status != _REFUSED or kind != "application/problem+json":
        text = f"{public_url} answers {status} in this service's stead: nothing is known of proxies"
        return Finding("warn", "canary", text)
    return Finding("ok", "canary", f"{public_url}: a deposit reaches the service as it comes")


def _connected(public_url: str, wait_s: float) -> socket.socket:
    parts = urlsplit(public_url)
    secure = parts.scheme == "https"
    port = parts.port or (_HTTPS if secure else _HTTP)
    plain = socket.create_connection((parts.hostname or "", port), timeout=wait_s)
    if not secure:
        return plain
    try:
        return ssl.create_default_context().wrap_socket(plain, server_hostname=parts.hostname)
    except BaseException:
        plain.close()
        raise


def _head(public_url: str) -> bytes:
    parts = urlsplit(public_url)
    lines = (
        f"PUT {parts.path.rstrip('/')}{_PATH} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: audio/wav",
        f"Content-Length: {_BODY_BYTES}",
        "Connection: close",
        "",
        "",
    )
    return "\r\n".join(lines).encode("ascii")
