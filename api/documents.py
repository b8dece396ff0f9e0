"""Talking to an issuer in small documents, as if the network were hostile.

No redirect is followed, an answer is at most 64 KiB, and the whole exchange (name lookup,
connection, headers, body) must end within 3 s: it runs in a thread of its own that is left behind
when it does not, so that a server that sends one byte a second holds nobody up.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import quote_plus, urlsplit

import httpx2

from api.settings_text import is_loopback

DOCUMENT_MAX_BYTES: Final = 65_536
DEADLINE_S: Final = 3.0
_JSON: Final = {"Accept": "application/json", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class _Asked:
    method: str
    uri: str
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    basic: tuple[str, str] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HttpDocuments:
    """Answers to ``api.ports.DocumentFetcher`` over https, or http on a loopback."""

    deadline_s: float = DEADLINE_S

    def get(self, uri: str) -> bytes:
        """Return the body of a 200 answer.

        Raises:
            OSError: no answer in time, a redirect, another status, too long, or plain http.
        """
        status, body = self._exchange(_Asked("GET", uri))
        if status != HTTPStatus.OK:
            raise OSError("not a 200")
        return body

    def post(
        self, uri: str, fields: Mapping[str, str], basic: tuple[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a form; return status and body of the answer, whatever it is.

        Args:
            uri: of the issuer's own host.
            fields: of the form.
            basic: client id and secret, or None for a client that has no secret.

        Raises:
            OSError: no answer in time, too long, or plain http.
        """
        return self._exchange(_Asked("POST", uri, fields, basic))

    def _exchange(self, asked: _Asked) -> tuple[int, bytes]:
        parts = urlsplit(asked.uri)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise OSError("not https")
        answer: queue.SimpleQueue[tuple[int, bytes] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._fetch, args=(asked, answer), daemon=True).start()
        try:
            found = answer.get(timeout=self.deadline_s)
        except queue.Empty as err:
            raise TimeoutError from err
        if isinstance(found, Exception):
            raise OSError("no usable answer") from found
        return found

    def _fetch(
        self, asked: _Asked, answer: queue.SimpleQueue[tuple[int, bytes] | Exception]
    ) -> None:
        try:
            answer.put(_answer(asked, self.deadline_s))
        except Exception as err:  # noqa: BLE001 - handed to the waiting thread
            answer.put(err)


def _answer(asked: _Asked, timeout_s: float) -> tuple[int, bytes]:
    body = bytearray()
    # the two halves of Basic are form-encoded first: RFC 6749 section 2.3.1
    auth = httpx2.BasicAuth(*map(quote_plus, asked.basic)) if asked.basic else None
    client = httpx2.Client(timeout=timeout_s, follow_redirects=False, trust_env=False)
    sent = client.stream(
        asked.method, asked.uri, headers=_JSON, data=dict(asked.fields) or None, auth=auth
    )
    with client, sent as response:
        for piece in response.iter_raw():
            body += piece
            if len(body) > DOCUMENT_MAX_BYTES:
                raise OSError("too long")
        return response.status_code, bytes(body)
