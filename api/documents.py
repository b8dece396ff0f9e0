"""Fetching one small document from an issuer, as if the network were hostile.

No redirect is followed, the answer must be a 200 of at most 64 KiB, and the whole exchange (name
lookup, connection, headers, body) must end within 3 s: it runs in a thread of its own that is left
behind when it does not, so that a server that sends one byte a second holds nobody up.
"""

from __future__ import annotations

import queue
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

import httpx2

from api.settings_text import is_loopback

DOCUMENT_MAX_BYTES: Final = 65_536
DEADLINE_S: Final = 3.0


@dataclass(frozen=True)
class HttpDocuments:
    """Answers to ``api.ports.DocumentFetcher`` over https, or http on a loopback."""

    deadline_s: float = DEADLINE_S

    def get(self, uri: str) -> bytes:
        """Return the body of a 200 answer.

        Raises:
            OSError: no answer in time, a redirect, another status, too long, or plain http.
        """
        parts = urlsplit(uri)
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise OSError("not https")
        answer: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._fetch, args=(uri, answer), daemon=True).start()
        try:
            found = answer.get(timeout=self.deadline_s)
        except queue.Empty as err:
            raise TimeoutError from err
        if isinstance(found, Exception):
            raise OSError("no usable answer") from found
        return found

    def _fetch(self, uri: str, answer: queue.SimpleQueue[bytes | Exception]) -> None:
        try:
            answer.put(_body(uri, self.deadline_s))
        except Exception as err:  # noqa: BLE001 - handed to the waiting thread
            answer.put(err)


def _body(uri: str, timeout_s: float) -> bytes:
    body = bytearray()
    client = httpx2.Client(timeout=timeout_s, follow_redirects=False, trust_env=False)
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    with client, client.stream("GET", uri, headers=headers) as response:
        if response.status_code != HTTPStatus.OK:
            raise OSError("not a 200")
        for piece in response.iter_raw():
            body += piece
            if len(body) > DOCUMENT_MAX_BYTES:
                raise OSError("too long")
    return bytes(body)
