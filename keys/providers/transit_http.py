"""Calls to the HTTP API of Vault or OpenBao, with the standard library alone.

One connection a call, no redirects, answers bounded. Every way of not answering is
``KeyUnavailable``; a facts' word tells them apart, and no answer's text goes into an error: Vault
repeats parts of a request in some.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from keys.errors import KeyUnavailable
from keys.providers.query import read_secret

_ANSWER_MAX_BYTES: Final = 8 << 20
_WELL: Final = (200, 204)
_SAID: Final = {
    400: "transit-bad-request",
    403: "transit-refused",
    404: "transit-not-found",
    429: "transit-standby",
    503: "transit-sealed",
}


@dataclass(frozen=True)
class Address:
    """Where the engine is mounted."""

    host: str
    port: int
    tls: bool
    mount: str
    namespace: str
    ca_file: str


@dataclass(frozen=True)
class Answer:
    """What Vault said: its status, the member ``data``, the member ``errors``."""

    status: int
    data: Mapping[str, Any]
    errors: Sequence[str]


@dataclass(frozen=True)
class TransitHttp:
    """Speaks to one mount. ``token_source`` is ``file:/path`` or ``env:NAME``."""

    address: Address
    token_source: str
    timeout_s: float

    def call(
        self,
        method: str,
        path: str,
        said: Mapping[str, object] | None = None,
        *,
        expected: Sequence[int] = _WELL,
    ) -> Answer:
        """Ask once.

        Args:
            method: ``GET``, ``POST``, ``LIST`` or ``DELETE``.
            path: below the mount.
            said: members of the JSON body.
            expected: statuses that are answers.

        Raises:
            KeyUnavailable: no answer, another status, or no token; what was asked for may have
                been done.
        """
        body = None if said is None else json.dumps(said).encode()
        try:
            connection = self._connection()
            try:
                connection.request(
                    method, f"/v1/{self.address.mount}/{path}", body, self._headers()
                )
                response = connection.getresponse()
                text = response.read(_ANSWER_MAX_BYTES + 1)
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, ValueError) as err:
            raise KeyUnavailable(what="transit-silent", kind=type(err).__name__) from err
        if response.status not in expected:
            what = _SAID.get(response.status, "transit-failed")
            raise KeyUnavailable(what=what, status=response.status)
        return _answer(response.status, text)

    def _headers(self) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "X-Vault-Request": "true",
            # a performance standby may not know yet what the active node has made or deleted
            "X-Vault-Inconsistent": "forward-active-node",
            "X-Vault-Token": read_secret(self.token_source),
        }
        if self.address.namespace:
            headers["X-Vault-Namespace"] = self.address.namespace
        return headers

    def _connection(self) -> http.client.HTTPConnection:
        where, timeout_s = self.address, self.timeout_s
        if not where.tls:
            return http.client.HTTPConnection(where.host, where.port, timeout=timeout_s)
        return http.client.HTTPSConnection(
            where.host, where.port, timeout=timeout_s, context=self._tls
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.address.ca_file or None)


def _answer(status: int, text: bytes) -> Answer:
    if not text:
        return Answer(status, {}, ())
    if len(text) > _ANSWER_MAX_BYTES:
        raise KeyUnavailable(what="transit-answer-too-long", status=status)
    try:
        found = json.loads(text)
        return Answer(status, dict(found.get("data") or {}), list(found.get("errors") or []))
    except (ValueError, AttributeError, RecursionError) as err:
        raise KeyUnavailable(what="transit-answer-unreadable", status=status) from err
