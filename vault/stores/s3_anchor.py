"""Copies of checkpoints in an S3 bucket under Object Lock: written once, gone at a date.

Each copy is one conditional PUT (``If-None-Match: *``) with ``Content-MD5``, which Object Lock asks
for, and a retention date. In COMPLIANCE mode nobody, the bucket's owner included, deletes a version
before that date; who overwrites it or hides it behind a delete marker leaves the version there, and
``newest_first`` reads versions, not names.

The writer's credentials need ``s3:PutObject`` and ``s3:PutObjectRetention`` and should have no
more: a service that was taken over then cannot even read what it must not undo. The reader's, if
the service has any, need ``s3:ListBucketVersions`` and ``s3:GetObjectVersion``. On Ceph whoever
puts an object owns it, and reads it unless the bucket's policy denies that (``docs/ledger.md``).

Ceph 16 ignores the condition in a bucket with versions, which Object Lock needs: a name that is put
twice has two versions there, both locked, both read.

Does not protect against: junk that a thief of the writer's credentials adds (it is not signed by
the ledger and is passed over); GOVERNANCE mode, which a privileged account lifts.

Source: Amazon S3 API reference, PutObject, ListObjectVersions; user guide, Object Lock.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from vault.errors import StoreUnavailable
from vault.stores.key import check_key
from vault.stores.s3 import translated

if TYPE_CHECKING:
    from typing import Literal

    from mypy_boto3_s3 import S3Client

NOTE_BYTES_MAX: Final = 64 * 1024


@dataclass(frozen=True)
class S3Anchor:
    """``vault.ports.AnchorStore`` over one bucket, below a prefix.

    Attributes:
        mode: of Object Lock. days: how long a copy is locked, from the moment it is put.
        writer, reader: clients with credentials of their own; no reader: write only.
    """

    bucket: str
    prefix: str
    mode: Literal["COMPLIANCE", "GOVERNANCE"]
    days: int
    writer: S3Client = field(repr=False)
    reader: S3Client | None = field(repr=False, default=None)

    @property
    def uri(self) -> str:
        """Return bucket and prefix."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def reads(self) -> bool:
        """Tell whether a reader's credentials were given."""
        return self.reader is not None

    def put_new(self, name: str, note: bytes, at: datetime) -> None:
        """Store a copy that nobody can take back for ``days`` days."""
        digest = hashlib.md5(note, usedforsecurity=False).digest()  # what the protocol asks for
        with translated():
            self.writer.put_object(
                Bucket=self.bucket,
                Key=self._above + check_key(name),
                Body=note,
                ContentMD5=base64.b64encode(digest).decode("ascii"),
                ContentType="text/plain; charset=utf-8",
                IfNoneMatch="*",
                ObjectLockMode=self.mode,
                ObjectLockRetainUntilDate=at + timedelta(days=self.days),
            )

    def newest_first(self) -> Iterator[bytes]:
        """Yield the bytes of every version, the highest name first."""
        if self.reader is None:
            raise StoreUnavailable(what="write-only")
        with translated():
            found = [
                (version["Key"], version["VersionId"])
                for page in self.reader.get_paginator("list_object_versions").paginate(
                    Bucket=self.bucket, Prefix=self._above
                )
                for version in page.get("Versions", [])
            ]
        for name, version_id in sorted(found, key=lambda one: one[0], reverse=True):
            with translated():
                answer = self.reader.get_object(Bucket=self.bucket, Key=name, VersionId=version_id)
                with contextlib.closing(answer["Body"]) as body:
                    data: bytes = body.read(NOTE_BYTES_MAX)
            yield data

    @property
    def _above(self) -> str:
        return f"{self.prefix}/" if self.prefix else ""
