"""Sealed objects in an S3 bucket, through boto3.

Writing: up to 8 MiB one conditional PUT (``If-None-Match: *``); above that a multipart upload in
parts of exactly 8 MiB, so an upload of any size holds two parts in memory at most. Each write
carries a random ``write-id`` as object metadata: when an answer was lost and the retry is refused,
the id tells whether the object that is there is this very write.

Guarantees: an object is whole or absent; ``finish`` returns once the store acknowledged it and then
showed it again: its length, this write's id and its last bytes, which are a seal's tag; a read is
exactly the range asked for, else ``StoreUnavailable``; a delete removes every version, every delete
marker and every unfinished upload of the key. A request ends within half a minute: two attempts,
each 5 s to connect and send and 10 s of silence; a read that drips ends soon after 20 s.

Does not protect against: two writers of one key above 8 MiB (Ceph ignores the condition on
CompleteMultipartUpload; keys are 128 random bits, so only a repeated key could meet itself); a
store that forgets later, or keeps other bytes before the last ones (a listen then says
``integrity-failure``); Object Lock, which keeps the sealed object until its date.

TLS certificates are verified against the system's authorities or ``AWS_CA_BUNDLE``. Checksums are
sent when required only: over HTTPS the default ones make Ceph answer 411.

Source: Amazon S3 API reference, PutObject, CompleteMultipartUpload, ListObjectVersions.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    ResponseStreamingError,
)
from urllib3.exceptions import HTTPError

from vault.errors import ObjectExists, ObjectMissing, StoreUnavailable
from vault.stores.key import check_key
from vault.stores.whole import write_whole

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

PART_BYTES: Final = 8 * 1024 * 1024
READ_ATTEMPTS: Final = 3
READ_MAX_S: Final = 20.0
SHOWN_BYTES: Final = 64
_PIECE_BYTES: Final = 64 * 1024
_CONFIG: Final = Config(
    connect_timeout=5,
    read_timeout=10,
    retries={"mode": "standard", "total_max_attempts": 2},
    max_pool_connections=64,
    tcp_keepalive=True,
    request_checksum_calculation="when_required",
    response_checksum_validation="when_required",
)
_MISSING: Final = frozenset({"404", "NoSuchKey", "NoSuchVersion"})
_TAKEN: Final = frozenset({"412", "PreconditionFailed"})
_PARTIAL_CONTENT: Final = 206
_BODY_ERRORS: Final = (IncompleteReadError, ResponseStreamingError, HTTPClientError, OSError)


@dataclass
class S3Writer:
    """One object on its way: buffered up to a part, then a multipart upload."""

    _client: S3Client
    _bucket: str
    _name: str
    _write_id: str = field(default_factory=lambda: secrets.token_hex(16))
    _buffer: bytearray = field(default_factory=bytearray)
    _upload_id: str = ""
    _parts: list[CompletedPartTypeDef] = field(default_factory=list)
    _size: int = 0
    _end: bytes = b""

    def write(self, piece: bytes) -> bool:
        """Buffer sealed bytes; ask for ``flush`` once more than a part is there."""
        self._buffer += piece
        self._size += len(piece)
        self._end = (self._end + piece[-SHOWN_BYTES:])[-SHOWN_BYTES:]
        return len(self._buffer) > PART_BYTES

    def flush(self) -> None:
        """Upload whole parts, one after the other; something is always left for ``finish``."""
        with translated():
            while len(self._buffer) > PART_BYTES:
                self._upload_part(PART_BYTES)

    def finish(self) -> int:
        """Upload the rest, or all of it in one conditional request; return the size in bytes.

        Raises:
            ObjectExists: the key is taken.
            StoreUnavailable: not acknowledged, or acknowledged and not kept; it may be there.
        """
        with translated():
            if self._upload_id or self._size > PART_BYTES:
                self._complete()
            else:
                self._put_at_once()
        self._upload_id = ""
        self._check_kept()
        return self._size

    def abort(self) -> None:
        """Drop the buffer and the parts; what cannot be dropped now goes with the key's delete."""
        self._buffer = bytearray()
        if self._upload_id:
            with contextlib.suppress(BotoCoreError, ClientError, OSError):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._name, UploadId=self._upload_id
                )
            self._upload_id = ""

    def _put_at_once(self) -> None:
        try:
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._name,
                Body=bytes(self._buffer),
                IfNoneMatch="*",
                Metadata={"write-id": self._write_id},
            )
        except ClientError as err:
            if _code(err) not in _TAKEN or not self._is_there():
                raise

    def _complete(self) -> None:
        while self._buffer:
            self._upload_part(min(PART_BYTES, len(self._buffer)))
        if _exists(self._client, self._bucket, self._name):
            raise ObjectExists
        try:
            self._client.complete_multipart_upload(
                Bucket=self._bucket,
                Key=self._name,
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
                IfNoneMatch="*",
            )
        except ClientError as err:
            if _code(err) not in {*_TAKEN, "NoSuchUpload"} or not self._is_there():
                raise

    def _upload_part(self, count: int) -> None:
        if not self._upload_id:
            begun = self._client.create_multipart_upload(
                Bucket=self._bucket, Key=self._name, Metadata={"write-id": self._write_id}
            )
            self._upload_id = begun["UploadId"]
        number = len(self._parts) + 1
        done = self._client.upload_part(
            Bucket=self._bucket,
            Key=self._name,
            UploadId=self._upload_id,
            PartNumber=number,
            Body=bytes(memoryview(self._buffer)[:count]),
        )
        self._parts.append({"ETag": done["ETag"], "PartNumber": number})
        del self._buffer[:count]

    def _check_kept(self) -> None:
        """Let the store show the end of what it acknowledged."""
        if not self._size:
            return
        first, last = self._size - len(self._end), self._size - 1
        try:
            answer = self._client.get_object(
                Bucket=self._bucket, Key=self._name, Range=f"bytes={first}-{last}"
            )
            with contextlib.closing(answer["Body"]) as body:
                end = _read_in_time(body, len(self._end) + 1, time.monotonic() + READ_MAX_S)
        except (BotoCoreError, ClientError, OSError) as err:
            raise StoreUnavailable(what="not-shown") from err
        said = answer.get("ContentRange"), answer["Metadata"].get("write-id"), end
        if said != (f"bytes {first}-{last}/{self._size}", self._write_id, self._end):
            raise StoreUnavailable(what="not-kept")

    def _is_there(self) -> bool:
        """Tell whether the object under the key is the one this writer sent."""
        found = self._client.head_object(Bucket=self._bucket, Key=self._name)
        return found["Metadata"].get("write-id") == self._write_id


@dataclass(frozen=True)
class S3Store:
    """``vault.ports.ObjectStore`` over one bucket, below a prefix."""

    uri: str
    bucket: str
    prefix: str
    client: S3Client
    reads_block: bool = field(default=True, init=False)

    @classmethod
    def open(
        cls, uri: str, *, bucket: str, prefix: str, endpoint: str | None, region: str | None
    ) -> S3Store:
        """Make the client; nothing is sent yet."""
        return cls(uri, bucket, prefix, connect(endpoint=endpoint, region=region))

    def begin(self, key: str) -> S3Writer:
        """Start writing a new object; nothing is sent before the first whole part."""
        return S3Writer(self.client, self.bucket, self._name(key))

    def put_new(self, key: str, data: bytes) -> None:
        """Store a small object; ``ObjectExists`` when the key is taken."""
        write_whole(self.begin(key), data)

    def replace(self, key: str, data: bytes) -> None:
        """Store or replace a small object in one request."""
        with translated():
            self.client.put_object(Bucket=self.bucket, Key=self._name(key), Body=data)

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return exactly the bytes asked for; a cut in mid-answer is asked again twice, in time."""
        if length == 0:
            self.size(key)
            return b""
        until_s = time.monotonic() + READ_MAX_S
        for _ in range(READ_ATTEMPTS - 1):
            with contextlib.suppress(*_BODY_ERRORS):
                return self._read_once(key, start, length, until_s)
            if time.monotonic() > until_s:
                raise StoreUnavailable(what="too-slow")
        with translated():
            return self._read_once(key, start, length, until_s)

    def size(self, key: str) -> int:
        """Return the size in bytes."""
        with translated():
            return self.client.head_object(Bucket=self.bucket, Key=self._name(key))["ContentLength"]

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every key under ``prefix`` in the order of the keys' bytes."""
        pages = self.client.get_paginator("list_objects_v2")
        with translated():
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._above + prefix):
                for found in page.get("Contents", []):
                    yield found["Key"].removeprefix(self._above)

    def delete_if_present(self, key: str) -> None:
        """Delete every version and delete marker; without one, every unfinished upload."""
        name = self._name(key)
        with translated():
            versions = [version for found, version in self._versions(name) if found == name]
            for version in versions:
                self.client.delete_object(Bucket=self.bucket, Key=name, VersionId=version)
            if not versions:
                self._abort_uploads(name)

    def check(self) -> None:
        """Begin an upload and abort it: proves the right to write and leaves nothing behind."""
        name = self._name("probe")
        with translated():
            begun = self.client.create_multipart_upload(Bucket=self.bucket, Key=name)
            self.client.abort_multipart_upload(
                Bucket=self.bucket, Key=name, UploadId=begun["UploadId"]
            )

    @property
    def _above(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""

    def _name(self, key: str) -> str:
        return self._above + check_key(key)

    def _read_once(self, key: str, start: int, length: int, until_s: float) -> bytes:
        last = start + length - 1
        with translated():
            answer = self.client.get_object(
                Bucket=self.bucket, Key=self._name(key), Range=f"bytes={start}-{last}"
            )
        with contextlib.closing(answer["Body"]) as body:
            asked = answer.get("ContentRange", "").startswith(f"bytes {start}-{last}/")
            if answer["ResponseMetadata"]["HTTPStatusCode"] != _PARTIAL_CONTENT or not asked:
                raise StoreUnavailable(what="other-range")
            data = _read_in_time(body, length + 1, until_s)
        if len(data) < length:
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=length)
        if len(data) > length:
            raise StoreUnavailable(what="wrong-length")
        return data

    def _versions(self, name: str) -> Iterator[tuple[str, str]]:
        pages = self.client.get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=self.bucket, Prefix=name):
            for version in page.get("Versions", []):
                yield version["Key"], version["VersionId"]
            for marker in page.get("DeleteMarkers", []):
                yield marker["Key"], marker["VersionId"]

    def _abort_uploads(self, name: str) -> None:
        pages = self.client.get_paginator("list_multipart_uploads")
        for page in pages.paginate(Bucket=self.bucket, Prefix=name):
            for upload in page.get("Uploads", []):
                if upload["Key"] == name:
                    self.client.abort_multipart_upload(
                        Bucket=self.bucket, Key=name, UploadId=upload["UploadId"]
                    )


def connect(*, endpoint: str | None, region: str | None, profile: str | None = None) -> S3Client:
    """Return a client; nothing is sent yet. A custom endpoint gets path-style addresses.

    Args:
        endpoint: of a store that is not Amazon's.
        region: else from the environment.
        profile: of the shared AWS credentials file; without one the usual AWS environment.
    """
    style = Config(s3={"addressing_style": "path" if endpoint else "auto"})
    with translated():
        session = boto3.session.Session(profile_name=profile)
        client: S3Client = session.client(
            "s3", endpoint_url=endpoint, region_name=region, config=_CONFIG.merge(style)
        )
    return client


def _read_in_time(body: StreamingBody, most: int, until_s: float) -> bytes:
    """Return what comes, up to ``most`` bytes; a store that drips, and so is never silent, is left.

    Raises:
        StoreUnavailable: it was not whole by then.
        ResponseStreamingError: it was cut, or silent for too long.
    """
    raw: Any = body.__enter__()  # what the body wraps: it alone gives less than was asked for
    pieces: list[bytes] = []
    left = most
    try:
        while left and (piece := raw.read1(min(left, _PIECE_BYTES))):
            pieces.append(piece)
            left -= len(piece)
            if left > 1 and time.monotonic() > until_s:
                raise StoreUnavailable(what="too-slow")
    except HTTPError as err:
        raise ResponseStreamingError(error=err) from err
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _exists(client: S3Client, bucket: str, name: str) -> bool:
    try:
        client.head_object(Bucket=bucket, Key=name)
    except ClientError as err:
        if _code(err) in _MISSING:
            return False
        raise
    return True


def _code(err: ClientError) -> str:
    return str(err.response.get("Error", {}).get("Code", ""))


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the errors of boto3 and of what lies below it into ours."""
    try:
        yield
    except ClientError as err:
        if _code(err) in _MISSING:
            raise ObjectMissing from err
        if _code(err) in _TAKEN:
            raise ObjectExists from err
        raise StoreUnavailable(what=_code(err)) from err
    except (BotoCoreError, OSError) as err:
        raise StoreUnavailable(what=type(err).__name__) from err
