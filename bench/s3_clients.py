"""PUTs of 480 KB to one Ceph RGW: the CPU of three S3 clients, and of our store on top of boto3.

Each round stores the same bytes with each client, one after the other in one thread; CPU is the
processor time of this process. Ours is the whole store: buffering, conditional PUT, the write's own
id; the clients alone send a plain PUT.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

import boto3
import obstore
from botocore.config import Config
from minio import Minio
from obstore.store import S3Store as ObstoreStore

from bench.figure import Figure, Run, UnavailableError, compare, interleave
from tests.services.servers import MissingError, S3Server, Servers
from vault.stores.registry import open_store

BODY_BYTES: Final = 480_000
PUTS: Final = 60
ROUNDS: Final = 6
BUCKET: Final = "bench"

Put = Callable[[str, bytes], object]


def figures(run: Run) -> list[Figure]:
    """Return CPU and rate of each way to store 480 KB.

    Raises:
        UnavailableError: there is no Ceph RGW on this machine.
    """
    body = os.urandom(BODY_BYTES)
    count = PUTS // (3 if run.quick else 1)
    with _gateway() as server:
        run.tell("clients")
        tasks = {name: partial(_load, put, body, count) for name, put in _clients(server).items()}
        measured = interleave(tasks, rounds=run.counted("480 KB", ROUNDS))
    return list(_compared(measured))


def _compared(measured: dict[str, list[tuple[float, float]]]) -> Iterator[Figure]:
    for words, unit, place in (
        ("480 KB: CPU of a PUT", "ms", 0),
        ("480 KB: PUTs of one thread", "/s", 1),
    ):
        ours = [one[place] for one in measured["store"]]
        for limit in ("boto3", "minio", "obstore"):
            other = [one[place] for one in measured[limit]]
            yield compare(words, limit=f"{limit} alone", unit=unit, ours=ours, other=other)


def _load(put: Put, body: bytes, count: int) -> tuple[float, float]:
    """Store ``count`` objects; return milliseconds of CPU for each, and how many a second."""
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for _ in range(count):
        put(f"v1/{uuid.uuid4().hex}", body)
    cpu_s, took_s = time.process_time() - cpu_s, time.perf_counter() - began_s
    return cpu_s / count * 1e3, count / took_s


def _clients(server: S3Server) -> dict[str, Put]:
    os.environ.update(server.environment)
    store = open_store(f"s3://{BUCKET}/ours?endpoint={server.http}&region={server.region}")

    def ours(key: str, body: bytes) -> None:
        writer = store.begin(key)
        for start in range(0, len(body), 1 << 16):
            writer.write(body[start : start + (1 << 16)])
        writer.finish()

    client = _boto3(server)
    keys = (server.access_key, server.secret_key)
    minio = Minio(urlsplit(server.http).netloc, *keys, secure=False, region=server.region)
    light = ObstoreStore(
        BUCKET,
        endpoint=server.http,
        access_key_id=server.access_key,
        secret_access_key=server.secret_key,
        region=server.region,
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return {
        "store": ours,
        "boto3": lambda key, body: client.put_object(Bucket=BUCKET, Key=f"boto3/{key}", Body=body),
        "minio": lambda key, body: _minio_put(minio, key, body),
        "obstore": lambda key, body: obstore.put(
            light, f"obstore/{key}", body, use_multipart=False
        ),
    }


def _minio_put(client: Minio, key: str, body: bytes) -> None:
    client.put_object(BUCKET, f"minio/{key}", BytesIO(body), len(body))


def _boto3(server: S3Server) -> Any:
    client = boto3.client(
        "s3",
        endpoint_url=server.http,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )
    client.create_bucket(Bucket=BUCKET)
    return client


@contextmanager
def _gateway() -> Iterator[S3Server]:
    servers = Servers()
    try:
        try:
            server = servers.s3()
        except MissingError as err:
            raise UnavailableError(str(err)) from err
        yield server
    finally:
        servers.stop()
