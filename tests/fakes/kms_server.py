"""A KMS that keeps to the states of its keys: what moto does not, which decrypts with deleted ones.

Speaks the JSON protocol to the real boto3. Refuses unknown operations and members, requests that
are not signed for KMS in its region, and whatever a key's state forbids. Reads may be stale for a
while after a change, every other one of them, as if two machines stood behind one address.

Source: AWS KMS API Reference; Developer Guide, table "Key states and AWS KMS operations".
"""

from __future__ import annotations

import base64
import copy
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.fakes.http_service import Asked, Door, Reply, serving

REGION: Final = "eu-west-3"
ACCESS_KEY: Final = "AKIAOUBLIETTETEST"
_SIGNED: Final = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/[0-9]{{8}}/{REGION}/kms/aws4_request, "
    r"SignedHeaders=[a-z0-9;-]*x-amz-target[a-z0-9;-]*, Signature=[0-9a-f]{64}"
)
_PAGE: Final = 2
# operation -> members it needs, members it may have
_MEMBERS: Final[dict[str, tuple[set[str], set[str]]]] = {
    "CreateKey": (set(), {"Description", "KeyUsage", "KeySpec", "Tags"}),
    "CreateAlias": ({"AliasName", "TargetKeyId"}, set()),
    "DeleteAlias": ({"AliasName"}, set()),
    "ListAliases": (set(), {"Limit", "Marker"}),
    "ListKeys": (set(), {"Limit", "Marker"}),
    "ListResourceTags": ({"KeyId"}, {"Limit", "Marker"}),
    "DescribeKey": ({"KeyId"}, set()),
    "Encrypt": ({"KeyId", "Plaintext"}, {"EncryptionContext"}),
    "Decrypt": ({"CiphertextBlob"}, {"KeyId", "EncryptionContext"}),
    "DisableKey": ({"KeyId"}, set()),
    "ScheduleKeyDeletion": ({"KeyId"}, {"PendingWindowInDays"}),
}
_READS: Final = {"ListAliases", "ListKeys", "ListResourceTags", "DescribeKey", "Encrypt", "Decrypt"}


class KmsError(Exception):
    pass


@dataclass
class KmsKey:
    tags: dict[str, str]
    state: str = "Enabled"
    made_at_s: float = field(default_factory=time.time)
    deletion_s: float = 0.0
    secret: bytes = field(default_factory=lambda: os.urandom(32), repr=False)


@dataclass
class Kms:
    """The service's memory. ``stale_reads``: how many reads after a change may miss it."""

    stale_reads: int = 0
    keys: dict[str, KmsKey] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    _before: tuple[dict[str, KmsKey], dict[str, str]] = field(default_factory=lambda: ({}, {}))
    _stale: int = 0

    def living(self) -> list[KmsKey]:
        return [key for key in self.keys.values() if key.state != "PendingDeletion"]

    def delete_what_pends(self) -> None:
        """Let the window pass."""
        for name in [name for name, key in self.keys.items() if key.state == "PendingDeletion"]:
            del self.keys[name]
            self.aliases = {alias: at for alias, at in self.aliases.items() if at != name}

    def act(self, asked: Asked) -> Reply:
        name = operation(asked)
        try:
            self._admit(asked, name)
            said = _members(asked, name)
            answer = self._read(name, said) if name in _READS else self._change(name, said)
        except KmsError as err:
            body = {"__type": str(err), "message": "refused by the fake"}
            return Reply(400, json.dumps(body).encode(), "application/x-amz-json-1.1")
        return Reply(200, json.dumps(answer).encode(), "application/x-amz-json-1.1")

    def _admit(self, asked: Asked, name: str) -> None:
        if asked.method != "POST" or asked.path != "/" or name not in _MEMBERS:
            raise KmsError("UnknownOperationException")
        if asked.headers.get("Content-Type") != "application/x-amz-json-1.1":
            raise KmsError("SerializationException")
        if not _SIGNED.fullmatch(asked.headers.get("Authorization", "")):
            raise KmsError("IncompleteSignatureException")

    def _change(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        before = copy.deepcopy((self.keys, self.aliases))
        answer: dict[str, Any] = getattr(self, f"_{name}")(said)
        self._before, self._stale = before, self.stale_reads
        return answer

    def _read(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        is_stale, self._stale = self._stale % 2 == 1, max(0, self._stale - 1)
        now = self.keys, self.aliases
        if is_stale:
            self.keys, self.aliases = self._before
        try:
            answer: dict[str, Any] = getattr(self, f"_{name}")(said)
        finally:
            self.keys, self.aliases = now
        return answer

    def _key(self, said: dict[str, Any], *states: str) -> KmsKey:
        key = self.keys.get(said["KeyId"])
        if key is None:
            raise KmsError("NotFoundException")
        if states and key.state not in states:
            disabled = key.state == "Disabled"
            raise KmsError("DisabledException" if disabled else "KMSInvalidStateException")
        return key

    def _CreateKey(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if (said.get("KeySpec"), said.get("KeyUsage")) != ("SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT"):
            raise KmsError("UnsupportedOperationException")
        name = str(uuid.uuid4())
        self.keys[name] = KmsKey({one["TagKey"]: one["TagValue"] for one in said.get("Tags", [])})
        return {"KeyMetadata": self._metadata(name)}

    def _CreateAlias(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        alias = said["AliasName"]
        if not re.fullmatch(r"alias/(?!aws/)[a-zA-Z0-9/_-]{1,250}", alias):
            raise KmsError("InvalidAliasNameException")
        if alias in self.aliases:
            raise KmsError("AlreadyExistsException")
        self._key({"KeyId": said["TargetKeyId"]}, "Enabled", "Disabled")
        self.aliases[alias] = said["TargetKeyId"]
        return {}

    def _DeleteAlias(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if self.aliases.pop(said["AliasName"], None) is None:
            raise KmsError("NotFoundException")
        return {}

    def _ListAliases(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        all_of_them = {"alias/aws/ebs": "", **self.aliases}
        rows = [
            {"AliasName": alias} | ({"TargetKeyId": at} if at else {})
            for alias, at in sorted(all_of_them.items())
        ]
        return _page("Aliases", rows, said)

    def _ListKeys(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return _page("Keys", [{"KeyId": name} for name in sorted(self.keys)], said)

    def _ListResourceTags(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        tags = self._key(said).tags
        return {"Tags": [{"TagKey": n, "TagValue": v} for n, v in tags.items()], "Truncated": False}

    def _DescribeKey(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._key(said)
        return {"KeyMetadata": self._metadata(said["KeyId"])}

    def _DisableKey(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._key(said, "Enabled", "Disabled").state = "Disabled"
        return {}

    def _ScheduleKeyDeletion(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        key, days = self._key(said, "Enabled", "Disabled"), said.get("PendingWindowInDays", 30)
        if not 7 <= days <= 30:
            raise KmsError("ValidationException")
        key.state, key.deletion_s = "PendingDeletion", time.time() + days * 86_400
        return {
            "KeyId": said["KeyId"],
            "DeletionDate": key.deletion_s,
            "KeyState": "PendingDeletion",
            "PendingWindowInDays": days,
        }

    def _Encrypt(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        secret, nonce = self._key(said, "Enabled").secret, os.urandom(12)
        clear = base64.b64decode(said["Plaintext"])
        sealed = nonce + AESGCM(secret).encrypt(nonce, clear, _bound(said))
        blob = uuid.UUID(said["KeyId"]).bytes + sealed
        return {"CiphertextBlob": base64.b64encode(blob).decode(), "KeyId": said["KeyId"]}

    def _Decrypt(self, said: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        blob = base64.b64decode(said["CiphertextBlob"])
        if len(blob) < 45:
            raise KmsError("InvalidCiphertextException")
        name = str(uuid.UUID(bytes=blob[:16]))
        if said.get("KeyId", name) != name:
            self._key(said)
            raise KmsError("IncorrectKeyException")
        secret = self._key({"KeyId": name}, "Enabled").secret
        try:
            clear = AESGCM(secret).decrypt(blob[16:28], blob[28:], _bound(said))
        except InvalidTag as err:
            raise KmsError("InvalidCiphertextException") from err
        return {"Plaintext": base64.b64encode(clear).decode(), "KeyId": name}

    def _metadata(self, name: str) -> dict[str, Any]:
        key = self.keys[name]
        found = {"KeyId": name, "CreationDate": key.made_at_s, "KeyState": key.state}
        return found | ({"DeletionDate": key.deletion_s} if key.deletion_s else {})


def operation(asked: Asked) -> str:
    return asked.headers.get("X-Amz-Target", "").removeprefix("TrentService.")


@contextmanager
def fake_kms(stale_reads: int = 0) -> Iterator[tuple[Kms, Door]]:
    """Serve a fresh KMS."""
    kms = Kms(stale_reads)
    body = json.dumps({"__type": "ThrottlingException", "message": "slow down"}).encode()
    with serving(kms.act, operation, Reply(400, body, "application/x-amz-json-1.1")) as door:
        yield kms, door


def _members(asked: Asked, name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(asked.body)
    needed, allowed = _MEMBERS[name]
    if not needed <= set(said) <= needed | allowed:
        raise KmsError("ValidationException")
    return said


def _bound(said: dict[str, Any]) -> bytes:
    return json.dumps(said.get("EncryptionContext", {}), sort_keys=True).encode()


def _page(member: str, rows: list[dict[str, Any]], said: dict[str, Any]) -> dict[str, Any]:
    first = int(said.get("Marker", "0"))
    last = first + _PAGE
    rest = {"Truncated": True, "NextMarker": str(last)}
    return {member: rows[first:last], **(rest if last < len(rows) else {"Truncated": False})}
