"""A telephony platform as tests need one: well-behaved by http.client or hostile by socket."""

from __future__ import annotations

import base64
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.fakes.small_call import small_call


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, its JSON read."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def code(self) -> str:
        return str(self.json.get("code", ""))


@dataclass(frozen=True)
class Platform:
    """Sends recordings to one address with one kind of credentials."""

    address: str
    credentials: Mapping[str, str]

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        **headers: str,
    ) -> Answer:
        """Send one request; underscores in header names become hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        chunked = body is not None and not isinstance(body, bytes)
        where = urlsplit(self.address)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        try:
            connection.request(
                method, path, body, {**self.credentials, **named}, encode_chunked=chunked
            )
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def put(
        self,
        external_id: str,
        body: bytes | Iterator[bytes],
        *,
        campaign: str = "winter-sale",
        said: bytes | None = None,
        query: str = "",
        **headers: str,
    ) -> Answer:
        """Deposit a raw body; ``external_id`` goes into the address as it is."""
        if said is not None:
            headers["Oubliette_Metadata"] = base64.urlsafe_b64encode(said).rstrip(b"=").decode()
        headers.setdefault("Content_Type", "audio/wav")
        if not isinstance(body, bytes):
            headers["Transfer_Encoding"] = "chunked"
        path = f"/v1/campaigns/{campaign}/recordings/{external_id}{query}"
        return self.request("PUT", path, body, **headers)

    def post(self, parts: bytes, *, boundary: str = "b0undary", **headers: str) -> Answer:
        """Deposit a form."""
        headers.setdefault("Content_Type", f"multipart/form-data; boundary={boundary}")
        return self.request("POST", "/v1/campaigns/winter-sale/recordings", parts, **headers)

    def connect(self) -> socket.socket:
        """Return a bare connection for what no client library would send."""
        where = urlsplit(self.address)
        return socket.create_connection((where.hostname, where.port), timeout=60)

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """Return a request's head as bytes."""
        credentials = [f"{name}: {value}" for name, value in self.credentials.items()]
        head = [f"{method} {path} HTTP/1.1", "Host: x", *credentials, *lines]
        return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n"


def read_answer(wire: socket.socket) -> Answer:
    """Return the one answer that a bare connection gets."""
    answer = http.client.HTTPResponse(wire)
    answer.begin()
    return Answer(answer.status, dict(answer.getheaders()), answer.read())


def call(seconds: float = 1.0, pitch: int = 7) -> bytes:
    """Return a WAV call; another pitch is another call."""
    return small_call(seconds, pitch)


def form_part(name: str, body: bytes, *lines: str, boundary: str = "b0undary") -> bytes:
    """Return one part of a form, its boundary in front."""
    head = "\r\n".join([f'Content-Disposition: form-data; name="{name}"', *lines])
    return f"--{boundary}\r\n{head}\r\n\r\n".encode() + body + b"\r\n"


def form(said: bytes, audio: bytes, *, file_name: str = "call.wav") -> bytes:
    """Return a whole form as the contract wants it."""
    disposition = f'Content-Disposition: form-data; name="audio"; filename="{file_name}"'
    head = f"--b0undary\r\n{disposition}\r\nContent-Type: audio/wav\r\n\r\n".encode()
    return form_part("metadata", said) + head + audio + b"\r\n--b0undary--\r\n"
