"""What every anchor promises, over a folder and over Ceph under Object Lock COMPLIANCE.

The gateway has two users beside the owner: one may only put, one may only read.
"""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from core.errors import InvalidRequest
from tests.conftest import s3_client
from tests.services.servers import S3Server, Servers
from vault.errors import ObjectExists, StoreUnavailable
from vault.ports import AnchorStore
from vault.stores.anchors import open_anchor

BUCKET = "anchors"
WRITER = ["s3:PutObject", "s3:PutObjectRetention"]
READER = ["s3:ListBucket", "s3:ListBucketVersions", "s3:GetObject", "s3:GetObjectVersion"]


def name(size: int) -> str:
    return f"checkpoint/{size:020d}-0011223344556677"


def now() -> datetime:
    return datetime.now(tz=UTC)


@dataclass(frozen=True)
class Locked:
    """A bucket under Object Lock, its owner's client, and where users' profiles are."""

    owner: Any
    prefix: str
    server: S3Server

    def uri(self, *, reader: bool = True, lock: str = "COMPLIANCE") -> str:
        options = f"endpoint={self.server.http}&region={self.server.region}&profile=anchor-writer"
        options += "&reader=anchor-reader" if reader else ""
        return f"s3://{BUCKET}/{self.prefix}?{options}&lock={lock}&days=2"

    def versions(self) -> list[dict[str, Any]]:
        found = self.owner.list_object_versions(Bucket=BUCKET, Prefix=self.prefix)
        return list(found.get("Versions", []))


@pytest.fixture(scope="module")
def profiles(servers: Servers, s3_server: S3Server, tmp_path_factory: Any) -> Path:
    """Make the bucket, its two users and their policy; return the file of their credentials."""
    owner = s3_client(s3_server)
    owner.create_bucket(Bucket=BUCKET, ObjectLockEnabledForBucket=True)
    configuration = servers.folder / "s3-rgw" / "ceph.conf"
    lines = []
    for user in ("anchor-writer", "anchor-reader"):
        words = ["radosgw-admin", "-c", str(configuration), "-n", "client.rgw", "user", "create"]
        made = subprocess.run(
            [*words, f"--uid={user}", f"--display-name={user}"],
            capture_output=True,
            check=True,
            timeout=180,
        )
        key = json.loads(made.stdout)["keys"][0]
        lines += [f"[{user}]", f"aws_access_key_id={key['access_key']}"]
        lines += [f"aws_secret_access_key={key['secret_key']}"]
    statements = [
        {
            "Effect": effect,
            "Principal": {"AWS": [f"arn:aws:iam:::user/{user}"]},
            "Action": actions,
            "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        }
        for user, effect, actions in (
            ("anchor-writer", "Allow", WRITER),
            ("anchor-writer", "Deny", ["s3:Get*", "s3:List*", "s3:Delete*"]),  # it owns what it put
            ("anchor-reader", "Allow", READER),
            ("dev", "Allow", ["s3:*"]),  # the bucket's owner: only the lock stops it
        )
    ]
    policy = {"Version": "2012-10-17", "Statement": statements}
    owner.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps(policy))
    path: Path = tmp_path_factory.mktemp("profiles") / "credentials"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def locked(
    s3_server: S3Server, profiles: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Locked]:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(profiles))
    client = s3_client(s3_server)
    yield Locked(client, uuid.uuid4().hex, s3_server)
    client.close()


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.needs_rgw)])
def anchor(request: pytest.FixtureRequest, tmp_path: Path) -> AnchorStore:
    uri = f"file://{tmp_path / 'anchor'}"
    if request.param == "s3":
        uri = request.getfixturevalue("locked").uri()
    opened = open_anchor(uri)
    assert opened is not None
    return opened


def test_copies_come_back_the_newest_first(anchor: AnchorStore) -> None:
    assert list(anchor.newest_first()) == []
    for size in (9, 100, 20):
        anchor.put_new(name(size), b"note %d" % size, now())
    assert anchor.reads
    assert list(anchor.newest_first()) == [b"note 100", b"note 20", b"note 9"]


def test_what_was_put_first_stays_whatever_is_put_later(anchor: AnchorStore) -> None:
    anchor.put_new(name(9), b"first", now())
    with suppress(ObjectExists):  # Ceph takes a second version: it ignores the condition there
        anchor.put_new(name(9), b"second", now())
    assert b"first" in list(anchor.newest_first())


def test_its_name_in_a_certificate_has_no_options(anchor: AnchorStore) -> None:
    assert "?" not in anchor.uri
    assert "anchor-writer" not in anchor.uri


@pytest.mark.needs_rgw
def test_a_copy_is_locked_in_compliance_mode_until_its_date(locked: Locked) -> None:
    anchor = open_anchor(locked.uri())
    assert anchor is not None
    at = now()
    anchor.put_new(name(9), b"note", at)
    [version] = locked.versions()
    where = {"Bucket": BUCKET, "Key": version["Key"], "VersionId": version["VersionId"]}
    kept = locked.owner.get_object_retention(**where)["Retention"]
    assert kept["Mode"] == "COMPLIANCE"
    assert abs(kept["RetainUntilDate"] - at - timedelta(days=2)) < timedelta(seconds=2)
    with pytest.raises(ClientError, match="AccessDenied"):  # its owner, even with the bypass
        locked.owner.delete_object(**where, BypassGovernanceRetention=True)
    assert list(anchor.newest_first()) == [b"note"]


@pytest.mark.needs_rgw
def test_control_without_a_lock_the_owner_deletes(locked: Locked) -> None:
    anchor: Any = open_anchor(locked.uri())
    anchor.writer.put_object(Bucket=BUCKET, Key=f"{locked.prefix}/{name(9)}", Body=b"note")
    [version] = locked.versions()
    locked.owner.delete_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])
    assert locked.versions() == []


@pytest.mark.needs_rgw
def test_a_copy_overwritten_or_hidden_by_the_owner_is_still_read(locked: Locked) -> None:
    anchor = open_anchor(locked.uri())
    assert anchor is not None
    anchor.put_new(name(9), b"note", now())
    key = locked.versions()[0]["Key"]
    locked.owner.put_object(Bucket=BUCKET, Key=key, Body=b"junk")
    locked.owner.delete_object(Bucket=BUCKET, Key=key)
    assert b"note" in list(anchor.newest_first())


@pytest.mark.needs_rgw
def test_the_writers_credentials_only_write(locked: Locked) -> None:
    anchor = open_anchor(locked.uri(reader=False))
    assert anchor is not None
    assert not anchor.reads
    anchor.put_new(name(9), b"note", now())
    with pytest.raises(StoreUnavailable):
        list(anchor.newest_first())
    writer: Any = anchor.writer  # type: ignore[attr-defined]  # the very client of the product
    key = locked.versions()[0]["Key"]
    for forbidden, what in (
        (writer.get_object, {"Key": key}),
        (writer.list_object_versions, {}),
        (writer.delete_object, {"Key": key}),
    ):
        with pytest.raises(ClientError, match=r"AccessDenied|403"):
            forbidden(Bucket=BUCKET, **what)
    reading = open_anchor(locked.uri())
    assert reading is not None
    assert list(reading.newest_first()) == [b"note"]


@pytest.mark.needs_rgw
def test_the_readers_credentials_do_not_write(locked: Locked) -> None:
    swapped = locked.uri().replace("profile=anchor-writer", "profile=anchor-reader")
    anchor = open_anchor(swapped)
    assert anchor is not None
    with pytest.raises(StoreUnavailable):
        anchor.put_new(name(9), b"note", now())


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/prefix",
        "s3://bucket/prefix?lock=COMPLIANCE",
        "s3://bucket/prefix?days=30",
        "s3://bucket/prefix?lock=none&days=30",
        "s3://bucket/prefix?lock=COMPLIANCE&days=0",
        "s3://bucket/prefix?lock=COMPLIANCE&days=30&days=1",
        "s3://bucket/prefix?lock=COMPLIANCE&days=30&acl=public",
        "s3://key:secret@bucket/prefix?lock=COMPLIANCE&days=30",
        "https://example.org/anchor",
        "file:///",
        "file://host/folder",
    ],
)
def test_an_anchor_that_would_not_hold_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        open_anchor(uri)


def test_no_uri_is_no_anchor() -> None:
    assert open_anchor("") is None
