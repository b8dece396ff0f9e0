"""Epoch keys in AWS KMS: one symmetric KMS key for each epoch.

    aws-kms:eu-west-3?window-days=7&name=kms-paris&endpoint=https://vpce-....amazonaws.com

Credentials come from where boto3 looks for them (environment, instance or pod role), never from
the URI. A key carries tags {oubliette-key, oubliette-controller, oubliette-epoch} and an alias that
says the same, by which it is listed: ``alias/oubliette/<key id>/<controller>/<epoch>``. What is
wrapped is bound to key id and context by KMS's encryption context.

Destroying disables the key at once and schedules its deletion; it is confirmed when KMS twice says
``PendingDeletion`` and refuses to encrypt under it. From then on nobody decrypts with it unless an
administrator of the AWS account cancels the deletion within the window: two dates.

KMS is eventually consistent. A key that is not found is called missing only when KMS says that it
pends deletion, or when it was made longer ago than changes take to arrive everywhere.

Creating that was cut off may leave a KMS key without an alias. Giving it up ends it, by its tag;
one that KMS made twice, or that a crash left, stays: it has wrapped nothing, and costs.

Does not protect against: an administrator who cancels a deletion within the window; AWS.

Source: AWS KMS Developer Guide, "Key states of AWS KMS keys", "Deleting AWS KMS keys", "AWS KMS
eventual consistency"; AWS KMS API Reference.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.material import wipe_bytes
from keys.ports import KeyTag, ListedKey
from keys.providers.aws_kms import KmsCalls, KmsRefusalError
from keys.providers.key_folder import KEY_ID
from keys.providers.kms_account import GONE, KEY_TAG, KmsAccount
from keys.providers.kms_text import Wrapped, alias_of
from keys.providers.query import check_address, checked_name, options

WINDOW_DAYS: Final = range(7, 31)
SETTLED_AFTER_S: Final = 900
_SECRET_BYTES: Final = 32
_REGION: Final = re.compile(r"[a-z0-9-]{4,32}")
_NOT_FOUND: Final = "NotFoundException"
_BAD_STATE: Final = "KMSInvalidStateException"
_NOT_OURS: Final = frozenset({"InvalidCiphertextException", "IncorrectKeyException"})


@dataclass(frozen=True)
class KmsProvider:
    """``keys.ports.KeyProvider`` over one region of one AWS account.

    Args:
        account: the keys of that region.
        window_days: how long a deletion pends, 7 to 30 days.
        name: stands in the URI.
        patience_s: how long to wait for KMS to agree with itself.
    """

    account: KmsAccount
    window_days: int
    name: str
    patience_s: float
    _known: dict[str, tuple[str, int]] = field(default_factory=dict, repr=False)
    _doubtful: set[str] = field(default_factory=set, repr=False)

    @property
    def uri(self) -> str:
        """Return ``aws-kms:`` and the provider's name."""
        return f"aws-kms:{self.name}"

    @property
    def limits(self) -> tuple[str, ...]:
        """Say how long a deletion pends."""
        return (f"kms-deletion-{self.window_days}-days",)

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Make a KMS key with its tags, then its alias; wait until KMS lists it."""
        _check(key_id)
        with _translated():
            if key_id in self._known or self.account.targets(key_id):
                raise KeyUnavailable(what="key-id-taken", key_id=key_id)
            self._doubtful.add(key_id)
            made = self.account.calls.once(
                "create_key",
                Description="Oubliette epoch key",
                KeyUsage="ENCRYPT_DECRYPT",
                KeySpec="SYMMETRIC_DEFAULT",
                Tags=_tags(key_id, tag),
            )["KeyMetadata"]
            self._known[key_id] = made["KeyId"], int(made["CreationDate"].timestamp())
            self.account.calls.once(
                "create_alias", AliasName=alias_of(key_id, tag), TargetKeyId=made["KeyId"]
            )
            if not self.account.shows(key_id, made["KeyId"]):
                raise KeyUnavailable(what="kms-settling", key_id=key_id)
            self._doubtful.discard(key_id)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return the keys that KMS has not scheduled for deletion."""
        with _translated():
            found = {
                key_id: tag
                for key_id, tag, kms_id in self.account.aliases()
                if tag.controller_id == controller_id and self.account.state(kms_id) not in GONE
            }
        return [ListedKey(key_id, tag) for key_id, tag in sorted(found.items())]

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Return KMS's ciphertext and which KMS key it is under (``kms_text``)."""
        _check(key_id)
        if len(secret) != _SECRET_BYTES:
            raise InvalidRequest(what="secret")
        with _translated():
            kms_id, made_at_s = self._find(key_id)
            answer = self.account.calls.call(
                "encrypt",
                KeyId=kms_id,
                Plaintext=secret,
                EncryptionContext=_context(key_id, context),
            )
        return Wrapped(kms_id, made_at_s, answer["CiphertextBlob"]).encode()

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes; a KMS key too new to be known everywhere is asked for again."""
        _check(key_id)
        read = Wrapped.decode(wrapped)
        found: list[bytearray] = []

        def opens() -> bool:
            try:
                answer = self.account.calls.call(
                    "decrypt",
                    KeyId=read.kms_id,
                    CiphertextBlob=read.sealed,
                    EncryptionContext=_context(key_id, context),
                )
            except KmsRefusalError as err:
                self._explain(err, key_id, read)
                return False
            found.append(bytearray(answer["Plaintext"]))
            wipe_bytes(answer["Plaintext"])
            return True

        with _translated():
            ends_s = time.monotonic() + self.patience_s
            while not opens():
                if time.monotonic() > ends_s:
                    raise KeyUnavailable(what="kms-settling", key_id=key_id)
                time.sleep(0.05)
        return found[0]

    def destroy(self, key_id: str) -> None:
        """Disable the key at once and schedule its deletion; return when KMS confirms both."""
        _check(key_id)
        try:
            with _translated():
                known = {self._known[key_id][0]} if key_id in self._known else set()
                kms_ids = known | self.account.targets(key_id)
                if key_id in self._doubtful:
                    kms_ids |= self.account.orphans(key_id)
                for kms_id in kms_ids:
                    self.account.end(kms_id, self.window_days)
                self.account.drop_aliases(key_id)
                self._known.pop(key_id, None)
                self._doubtful.discard(key_id)
        except KeyUnavailable as err:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri) from err

    def _explain(self, err: KmsRefusalError, key_id: str, read: Wrapped) -> None:
        """Raise what a refused decryption means; return when it is to be tried again."""
        code = err.code
        if code in _NOT_OURS:
            raise IntegrityFailure(what="wrapped-blob-key") from err
        if code == _BAD_STATE and self.account.state(read.kms_id) in GONE:
            raise KeyMissing(key_id=key_id, provider=self.uri) from err
        if code != _NOT_FOUND:
            raise err
        if time.time() - read.made_at_s > SETTLED_AFTER_S:
            raise KeyMissing(key_id=key_id, provider=self.uri) from err

    def _find(self, key_id: str) -> tuple[str, int]:
        if key_id not in self._known:
            targets = self.account.targets(key_id)
            if not targets:
                raise KeyUnavailable(what="epoch-key", key_id=key_id)
            kms_id = min(targets)
            made = self.account.calls.call("describe_key", KeyId=kms_id)["KeyMetadata"]
            self._known[key_id] = kms_id, int(made["CreationDate"].timestamp())
        return self._known[key_id]


def open_kms(rest: str, timeout_s: float) -> KmsProvider:
    """Open the provider of a URI, given without its scheme; nothing is asked yet.

    Raises:
        InvalidRequest: no region, an unknown option, a window outside 7 to 30 days, or http to
            another machine.
    """
    region, _, query = rest.partition("?")
    given = options(query, ("window-days", "endpoint", "name"))
    days = given.get("window-days", str(WINDOW_DAYS[0]))
    if not _REGION.fullmatch(region):
        raise InvalidRequest(what="keys-uri", option="region")
    if not days.isdecimal() or int(days) not in WINDOW_DAYS:
        raise InvalidRequest(what="keys-uri", option="window-days")
    name, endpoint = checked_name(given.get("name", region)), given.get("endpoint", "")
    if endpoint:
        check_address(endpoint)
    calls = KmsCalls(region, endpoint, timeout_s / 4)
    return KmsProvider(KmsAccount(calls, timeout_s / 2), int(days), name, timeout_s / 2)


def _check(key_id: str) -> None:
    if not KEY_ID.fullmatch(key_id):
        raise InvalidRequest(what="key-id")


def _tags(key_id: str, tag: KeyTag) -> list[dict[str, str]]:
    values = {
        KEY_TAG: key_id,
        "oubliette-controller": tag.controller_id,
        "oubliette-epoch": str(tag.epoch),
    }
    return [{"TagKey": name, "TagValue": value} for name, value in values.items()]


def _context(key_id: str, context: bytes) -> dict[str, str]:
    return {KEY_TAG: key_id, "oubliette-context": hashlib.sha256(context).hexdigest()}


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except KmsRefusalError as err:
        raise KeyUnavailable(what="kms-refused", kms=err.code) from err
