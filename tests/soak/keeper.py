"""Somebody who copies every key blob and the head of every object that ever lay in the store.

After the run they try to open what was erased with whatever the key provider still has.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests import format_opener as opener
from tests.fakes.stranger import HEAD_BYTES, Stranger
from tests.soak.rig import BUCKET, ELSEWHERE, Rig
from tests.soak.told import Told

_BLOBS = sa.text("SELECT blob FROM key_blobs")


@dataclass
class Keeper:
    """Keeps copying; safe to be called by several threads.

    Attributes:
        stranger: who opens what was kept.
    """

    rig: Rig
    told: Told
    stranger: Stranger
    stopped: threading.Event = field(default_factory=threading.Event)
    _seen: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _client: Any = None

    def run(self, every_s: float = 3.0) -> None:
        """Copy again and again until the end."""
        while not self.stopped.is_set():
            self.keep()
            self.stopped.wait(every_s)

    def keep(self) -> None:
        """Copy what lies there now and was not copied before."""
        with self._lock:
            self._client = self._client or self.rig.client
            self._keep_rows()
            for bucket, prefix in ((BUCKET, "blobs/"), (ELSEWHERE, "")):
                for name in self._new(bucket, prefix):
                    self._keep_blob(bucket, name)
            for name in self._new(BUCKET, "v1/"):
                self._keep_head(name)

    def _keep_rows(self) -> None:
        engine = sa.create_engine(self.rig.superuser, poolclass=sa.pool.NullPool)
        try:
            with engine.connect() as connection:
                self.stranger.blobs.update(map(bytes, connection.execute(_BLOBS).scalars()))
        except sa.exc.DBAPIError:
            self.told.note("the keeper did not reach the database")
        finally:
            engine.dispose()

    def _new(self, bucket: str, prefix: str) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        names = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return [one for one in names if f"{bucket}/{one}" not in self._seen]

    def _keep_blob(self, bucket: str, name: str) -> None:
        data = self._read(bucket, name)
        if data is not None:
            self.stranger.blobs.add(data)
            self._seen.add(f"{bucket}/{name}")

    def _keep_head(self, name: str) -> None:
        head = self._read(BUCKET, name, Range=f"bytes=0-{HEAD_BYTES - 1}")
        if head is not None and len(head) == HEAD_BYTES:
            recording = opener.read_header(head[: opener.HEADER_BYTES]).recording
            self.stranger.heads[opener.spell("rec_", recording)] = head
            self._seen.add(f"{BUCKET}/{name}")

    def _read(self, bucket: str, name: str, **how: str) -> bytes | None:
        """Return an object, None when it was deleted meanwhile."""
        try:
            data: bytes = self._client.get_object(Bucket=bucket, Key=name, **how)["Body"].read()
        except self._client.exceptions.NoSuchKey:
            return None
        return data


def fetch(rig: Rig, prefix: str, folder: Path) -> None:
    """Copy everything below a prefix of the bucket into a folder."""
    client = rig.client
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    for found in (one for page in pages for one in page.get("Contents", [])):
        path = folder / found["Key"].removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download_file(BUCKET, found["Key"], str(path))
