"""What lies in the bucket, seen by another client: sealed, complete, nothing personal."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import ssl
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest
import sqlalchemy as sa
import urllib3
from minio import Minio

from tests.fakes.deposit_server import DepositServer, deposit_server
from tests.services.servers import S3Server
from vault.container import HEADER_BYTES, object_size
from vault.tables import recordings

NUMBER: Final = "+33612345678"
AGENT: Final = "Zoe Martin"
EXTERNAL_ID: Final = "out-0612345678-20260302-093000.wav"
SAID: Final = json.dumps(
    {"agent": AGENT, "contact_number": NUMBER, "contact_reference": "C-7741-Zoe"}
)
WINDOW: Final = 32

pytestmark = pytest.mark.needs_rgw


@dataclass(frozen=True)
class Seen:
    """One object as the other client sees it."""

    name: str
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Bucket:
    """A prefix of a bucket behind a client that the product does not use."""

    client: Minio
    name: str
    prefix: str

    def objects(self) -> list[Seen]:
        """Return every object, every version of it and every marker."""
        found = self.client.list_objects(
            bucket_name=self.name, prefix=self.prefix, recursive=True, include_version=True
        )
        return [self._read(one.object_name or "") for one in found]

    def _read(self, name: str) -> Seen:
        answer = self.client.get_object(bucket_name=self.name, object_name=name)
        try:
            return Seen(name.removeprefix(self.prefix), answer.read(), dict(answer.headers))
        finally:
            answer.close()
            answer.release_conn()


@pytest.fixture(params=["http", "https"])
def endpoint(request: pytest.FixtureRequest, s3_server: S3Server) -> str:
    at: str = getattr(s3_server, request.param)
    return at


@pytest.fixture
def uri(endpoint: str, s3_uri: Callable[[str], str]) -> str:
    return s3_uri(endpoint)


@pytest.fixture
def bucket(s3_server: S3Server, endpoint: str, uri: str) -> Bucket:
    parts, at = urlsplit(uri), urlsplit(endpoint)
    trusted = ssl.create_default_context(cafile=str(s3_server.ca_bundle))
    client = Minio(
        endpoint=at.netloc,
        access_key=s3_server.access_key,
        secret_key=s3_server.secret_key,
        region=s3_server.region,
        secure=at.scheme == "https",
        http_client=urllib3.PoolManager(ssl_context=trusted),
    )
    return Bucket(client, parts.netloc, parts.path.strip("/") + "/")


@pytest.fixture
def server(tmp_path: Path, uri: str) -> Iterator[DepositServer]:
    with deposit_server(
        tmp_path, STORE_URI=uri, RECORDING_MAX_BYTES="64 MiB", UPLOAD_IDLE_S="30"
    ) as running:
        yield running


def wav(samples: bytes) -> bytes:
    """Return a WAV file of 16-bit samples at 8 kHz."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8_000, 16_000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data


def personal() -> list[bytes]:
    """Return every spelling of what may not lie there; none is so short as to come by chance."""
    words = [NUMBER, NUMBER[1:], "0612345678", AGENT, "C-7741-Zoe", EXTERNAL_ID]
    raw = [word.encode() for word in words]
    spelt = [raw, [one.hex().encode() for one in raw], [base64.b64encode(one)[:-4] for one in raw]]
    return [one for spelling in spelt for one in spelling if len(one) > 6]


def clear_windows(audio: bytes, body: bytes) -> int:
    """Count the places of ``audio`` whose 32 bytes stand in ``body`` in clear."""
    starts = range(64, len(audio) - WINDOW, 4_099)
    return sum(audio[start : start + WINDOW] in body for start in starts)


def rows(server: DepositServer) -> dict[str, Any]:
    with server.made.service.ports.database.read() as connection:
        found = connection.execute(sa.select(recordings)).all()
    return {row.object_key: row for row in found}


def test_another_client_finds_sealed_whole_objects_and_nothing_personal(
    server: DepositServer, bucket: Bucket
) -> None:
    calls = [wav(os.urandom(48_000)), wav(os.urandom(9_500_000))]
    for number, audio in enumerate(calls):
        name = quote(EXTERNAL_ID) if number == 0 else "second"
        answer = server.pbx.put(name, audio, said=SAID.encode())
        assert answer.status == 201, answer.body

    seen = {one.name: one for one in bucket.objects()}
    expected = rows(server)
    assert seen.keys() == expected.keys()
    for key, row in expected.items():
        assert re.fullmatch(r"v1/[0-9a-f]{2}/[0-9a-f]{32}", key)
        body = seen[key].body
        assert len(body) == object_size(row.clear_bytes)
        assert hashlib.sha256(body[HEADER_BYTES:]).digest() == row.body_sha256
        said = {n.lower() for n in seen[key].headers if n.lower().startswith("x-amz-meta-")}
        assert said == {"x-amz-meta-write-id"}
        everything = body + repr(seen[key].headers).encode() + key.encode()
        assert [word for word in personal() if word in everything] == []
        assert [clear_windows(audio, body) for audio in calls] == [0, 0]


@pytest.mark.parametrize("planted", [NUMBER.encode(), AGENT.encode().hex().encode()])
def test_a_planted_word_and_a_planted_sound_would_be_found(planted: bytes) -> None:
    audio = os.urandom(48_000)
    assert [word for word in personal() if word in b"noise" + planted] != []
    assert clear_windows(audio, os.urandom(500) + audio[4_000:12_000]) > 0


def test_a_refused_or_broken_deposit_leaves_nothing_in_the_bucket(
    server: DepositServer, bucket: Bucket
) -> None:
    answer = server.pbx.put("page", b"<!doctype html><html><body>Sorry</body></html>")
    assert answer.status == 415
    large = wav(os.urandom(9_500_000))
    with server.pbx.connect() as wire:
        path = "/v1/campaigns/winter-sale/recordings/broken"
        wire.sendall(
            server.pbx.head("PUT", path, "Content-Type: audio/wav", f"Content-Length: {len(large)}")
        )
        wire.sendall(large[:9_000_000])
    assert server.pbx.put("whole", large).status == 201
    assert {one.name for one in bucket.objects()} == set(rows(server))
