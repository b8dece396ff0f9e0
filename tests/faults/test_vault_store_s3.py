"""What the S3 store does when the store lies, breaks off, hangs or loses an answer."""

from __future__ import annotations

import time
import tracemalloc
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from minio import Minio

from tests.conftest import s3_client
from tests.fakes.scripted_s3 import Answer, ScriptedS3
from tests.services.faultproxy import FaultProxy, Faults
from tests.services.servers import S3Server
from vault.errors import ObjectExists, ObjectMissing, StoreUnavailable
from vault.ports import ObjectStore
from vault.stores import s3
from vault.stores.registry import open_store

PART = s3.PART_BYTES
KEY = "v1/ab/abcdef"
RIGHT = Answer(body=b"0123", content_range="bytes 4-7/100")


@pytest.fixture
def liar(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with ScriptedS3() as script:
        yield script


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timeouts end soon: only for what must end by one, since a busy store is slow too."""
    short = Config(connect_timeout=1, read_timeout=0.4, retries={"total_max_attempts": 2})
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(short))


@pytest.fixture
def wire(s3_server: S3Server, fault_proxy: Callable[[str, int], FaultProxy]) -> FaultProxy:
    return fault_proxy("127.0.0.1", urlsplit(s3_server.http).port or 0)


@pytest.fixture
def broken_store(wire: FaultProxy, s3_uri: Callable[[str], str]) -> ObjectStore:
    return open_store(s3_uri(f"http://127.0.0.1:{wire.port}"))


@pytest.fixture
def whole_store(s3_server: S3Server, broken_store: s3.S3Store) -> ObjectStore:
    prefix = broken_store.prefix
    return open_store(f"s3://{broken_store.bucket}/{prefix}?endpoint={s3_server.http}")


def ask(liar: ScriptedS3, *answers: Answer) -> bytes:
    liar.answers = deque(answers)
    store = open_store(f"s3://bucket?endpoint={liar.endpoint}&region=us-east-1")
    return store.read(KEY, 4, 4)


def test_the_right_answer_is_taken(liar: ScriptedS3) -> None:
    assert ask(liar, RIGHT) == b"0123"
    assert liar.requests == ["bytes=4-7"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(body=b"012", content_range="bytes 4-7/100"), id="short"),
        pytest.param(Answer(body=b"01234", content_range="bytes 4-7/100"), id="long"),
        pytest.param(Answer(body=b"0123", content_range="bytes 0-3/100"), id="other-range"),
        pytest.param(Answer(body=b"0123", content_range="bytes 4-70/100"), id="wider-range"),
        pytest.param(Answer(body=b"0123"), id="no-range-named"),
        pytest.param(Answer(status=200, body=b"0123"), id="200-for-a-range"),
        pytest.param(
            Answer(status=200, body=b"0123", content_range="bytes 4-7/100"), id="200-with-a-range"
        ),
        pytest.param(
            Answer(body=b"01", content_range="bytes 4-7/100", declared=4), id="cut-every-time"
        ),
        pytest.param(Answer(status=403, body=b"<Error/>"), id="forbidden"),
        pytest.param(Answer(status=416, body=b"<Error/>"), id="unsatisfiable"),
        pytest.param(Answer(status=400, body=b"not xml \xff"), id="garbage"),
        pytest.param(Answer(status=503, body=b"<Error/>"), id="503"),
    ],
)
def test_a_wrong_answer_is_never_passed_on(liar: ScriptedS3, answer: Answer) -> None:
    with pytest.raises(StoreUnavailable):
        ask(liar, answer)


def test_missing_is_told_apart_from_unavailable(liar: ScriptedS3) -> None:
    body = b"<Error><Code>NoSuchKey</Code></Error>"
    with pytest.raises(ObjectMissing):
        ask(liar, Answer(status=404, body=body))
    body = b"<Error><Code>NoSuchBucket</Code></Error>"
    with pytest.raises(StoreUnavailable):
        ask(liar, Answer(status=404, body=body))


def test_an_answer_cut_once_is_asked_again_whole(liar: ScriptedS3) -> None:
    cut = Answer(body=b"01", content_range="bytes 4-7/100", declared=4)
    assert ask(liar, cut, cut, RIGHT) == b"0123"
    assert len(liar.requests) == 3


def test_a_store_that_drips_is_not_waited_for(
    liar: ScriptedS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never silent, so no timeout of the client ends it: whole, this would take an hour."""
    monkeypatch.setattr(s3, "READ_MAX_S", 0.3)
    liar.answers = deque([Answer(body=bytes(65_536), content_range="bytes 0-65535/*", drips=0.05)])
    began = time.monotonic()
    with pytest.raises(StoreUnavailable, match="too-slow"):
        open_store(f"s3://bucket?endpoint={liar.endpoint}&region=us-east-1").read(KEY, 0, 65_536)
    assert time.monotonic() - began < 60
    assert len(liar.requests) == 1


def test_a_dead_store_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    store = open_store("s3://bucket?endpoint=http://127.0.0.1:1&region=us-east-1")
    for use in (store.check, lambda: store.size(KEY), lambda: store.put_new(KEY, b"x")):
        with pytest.raises(StoreUnavailable):
            use()


@pytest.mark.needs_rgw
class TestOverCeph:
    def test_a_lost_answer_to_a_put_is_not_a_lost_object(
        self, broken_store: ObjectStore, whole_store: ObjectStore, wire: FaultProxy
    ) -> None:
        wire.cause(Faults(cut_reply_after=0, cuts=1))
        broken_store.put_new(KEY, b"kept once")
        assert wire.stats.cut == 1
        assert whole_store.read(KEY, 0, 9) == b"kept once"
        with pytest.raises(ObjectExists):  # a second write is still told apart from the first
            broken_store.put_new(KEY, b"kept once")

    def test_a_lost_answer_to_the_last_step_of_a_large_upload(
        self, broken_store: ObjectStore, whole_store: ObjectStore, wire: FaultProxy
    ) -> None:
        writer = broken_store.begin(KEY)
        assert writer.write(bytes(PART + 10))
        writer.flush()
        wire.cause(Faults(cut_reply_with=b"CompleteMultipartUploadResult", cuts=1))
        assert writer.finish() == PART + 10
        assert wire.stats.cut == 1
        assert whole_store.size(KEY) == PART + 10

    def test_a_part_that_broke_off_is_sent_again(
        self, broken_store: ObjectStore, whole_store: ObjectStore, wire: FaultProxy
    ) -> None:
        writer = broken_store.begin(KEY)
        data = uuid.uuid4().bytes * ((PART + 16) // 16)
        writer.write(data)
        wire.cause(Faults(cut_after=PART // 2, cuts=1))
        writer.flush()
        writer.finish()
        assert wire.stats.cut == 1
        assert whole_store.read(KEY, 0, len(data)) == data

    @pytest.mark.parametrize("size", [10, PART + 10])
    def test_a_wire_that_stays_broken_acknowledges_nothing(
        self, broken_store: ObjectStore, whole_store: ObjectStore, wire: FaultProxy, size: int
    ) -> None:
        writer = broken_store.begin(KEY)
        writer.write(bytes(size))
        wire.cause(Faults(cut_after=0))
        with pytest.raises(StoreUnavailable):
            writer.finish()
        writer.abort()
        assert list(whole_store.keys("")) == []

    def test_a_store_that_hangs_is_given_up_in_bounded_time(
        self, impatient: None, broken_store: ObjectStore, wire: FaultProxy
    ) -> None:
        wire.cause(Faults(blackhole=True))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            broken_store.size(KEY)
        assert time.monotonic() - began < 30  # the client's own limits: five times a minute
        wire.heal()

    def test_a_reader_cut_in_mid_stream_gets_everything_or_nothing(
        self, broken_store: ObjectStore, whole_store: ObjectStore, wire: FaultProxy
    ) -> None:
        data = uuid.uuid4().bytes * 20_000
        whole_store.put_new(KEY, data)
        wire.cause(Faults(cut_reply_after=100_000, cuts=2))
        assert broken_store.read(KEY, 0, len(data)) == data
        assert wire.stats.cut == 2
        wire.cause(Faults(cut_reply_after=100_000))
        with pytest.raises(StoreUnavailable):
            broken_store.read(KEY, 0, len(data))

    def test_a_server_of_unknown_authority_is_not_spoken_to(
        self,
        s3_server: S3Server,
        s3_uri: Callable[[str], str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        uri = s3_uri(s3_server.https)
        open_store(uri).check()
        monkeypatch.delenv("AWS_CA_BUNDLE")
        with pytest.raises(StoreUnavailable):
            open_store(uri).check()


@pytest.mark.needs_rgw
class TestWhatLiesInTheBucket:
    @pytest.fixture
    def versioned(self, s3_server: S3Server, s3_uri: Callable[[str], str]) -> tuple[str, str, str]:
        bucket = f"versioned-{uuid.uuid4().hex}"
        client = s3_client(s3_server)
        client.create_bucket(Bucket=bucket)
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        client.close()
        uri = s3_uri(s3_server.http).replace("s3://oubliette/", f"s3://{bucket}/")
        return bucket, urlsplit(uri).path.strip("/"), uri

    @pytest.fixture
    def witness(self, s3_server: S3Server) -> Minio:
        parts = urlsplit(s3_server.http)
        return Minio(
            endpoint=parts.netloc,
            access_key=s3_server.access_key,
            secret_key=s3_server.secret_key,
            region=s3_server.region,
            secure=False,
        )

    def test_deleting_takes_every_version_and_every_marker(
        self, versioned: tuple[str, str, str], witness: Minio, s3_server: S3Server
    ) -> None:
        bucket, prefix, uri = versioned
        store = open_store(uri)
        for body in (b"one", b"two"):
            store.replace(KEY, body)
        client = s3_client(s3_server)
        client.delete_object(Bucket=bucket, Key=f"{prefix}/{KEY}")  # leaves a marker
        client.close()
        store.replace(KEY, b"three")
        store.put_new(KEY + "0", b"neighbour")
        before = _versions(witness, bucket)
        assert len(before) == 5
        store.delete_if_present(KEY)
        assert [name for name, _ in _versions(witness, bucket)] == [f"{prefix}/{KEY}0"]
        store.delete_if_present(KEY)

    def test_deleting_takes_what_a_dead_upload_left(
        self, versioned: tuple[str, str, str], s3_server: S3Server
    ) -> None:
        bucket, _prefix, uri = versioned
        writer = open_store(uri).begin(KEY)
        writer.write(bytes(PART + 1))
        writer.flush()  # and the process dies here
        client = s3_client(s3_server)
        assert len(client.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
        open_store(uri).delete_if_present(KEY)
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)
        client.close()

    def test_another_client_sees_the_same_bytes_and_nothing_beside_them(
        self, versioned: tuple[str, str, str], witness: Minio
    ) -> None:
        bucket, prefix, uri = versioned
        sizes = {"v1/aa/small": 1000, "v1/bb/large": 2 * PART + 5}
        for key, size in sizes.items():
            writer = open_store(uri).begin(key)
            writer.write(b"\xa5" * size)
            writer.flush()
            writer.finish()
        found = list(witness.list_objects(bucket_name=bucket, recursive=True))
        assert {one.object_name for one in found} == {f"{prefix}/{key}" for key in sizes}
        for key, size in sizes.items():
            answer = witness.get_object(bucket_name=bucket, object_name=f"{prefix}/{key}")
            assert answer.read() == b"\xa5" * size
            assert [n for n in answer.headers if n.lower().startswith("x-amz-meta")] == [
                "x-amz-meta-write-id"
            ]
            answer.close()
            answer.release_conn()

    def test_an_upload_of_any_size_holds_a_few_parts_in_memory(
        self, versioned: tuple[str, str, str]
    ) -> None:
        writer = open_store(versioned[2]).begin(KEY)
        piece = bytes(262_144)
        tracemalloc.start()
        for _ in range(12 * PART // len(piece)):
            if writer.write(piece):
                writer.flush()
        assert writer.finish() == 12 * PART
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 4 * PART


def _versions(witness: Minio, bucket: str) -> list[tuple[str, Any]]:
    found = witness.list_objects(bucket_name=bucket, recursive=True, include_version=True)
    return [(one.object_name or "", one.version_id) for one in found]
