"""Small seals under a leaf of the tree, and the blob that a cover travels in.

Under a leaf, each use has its own key: HKDF-Expand-SHA512(leaf, label | ids) with a label of
``labels`` and the 54 bytes of ``Subject.binary``.

    wrapped DEK   nonce 12 | AES-256-GCM(DEK 32) | tag 16                 associated data: ids
    message       nonce 12 | AES-256-GCM(clear) | tag 16                  ... ids | context
    MAC           HMAC-SHA256, 32 bytes

The blob (integers big endian):

    magic 8 | version u8 | controller 16 | epoch u64 | key id 16 | length u16 | wrapped blob key
    | nonce 12 | AES-256-GCM(cover) | tag 16

Everything before the nonce is its associated data. The blob key is drawn for one blob and never
used again; the blob's name is the SHA-256 of the whole.

A nonce is an argument: 12 random bytes from the caller, never used twice under a leaf.

Does not protect against a holder of the leaf, who can make any of these anew.

Source: RFC 5869 section 2.3; NIST SP 800-38D.
"""

from __future__ import annotations

import hmac
import re
import struct
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from core import ids
from core.errors import IntegrityFailure, InvalidRequest
from keys import labels
from keys.material import DEK_BYTES, Dek, wipe, wipe_bytes
from keys.model import Subject

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
MAC_BYTES: Final = 32
WRAPPED_DEK_BYTES: Final = NONCE_BYTES + DEK_BYTES + TAG_BYTES
BLOB_MAGIC: Final = b"OUBLCOVR"
BLOB_VERSION: Final = 1
_CONTROLLER: Final = "ctl_"
_KEY_ID_BYTES: Final = 16
_KEY_ID: Final = re.compile(r"[0-9a-f]{32}")
_BLOB_HEAD: Final = struct.Struct(f">8sB{ids.ID_BYTES}sQ{_KEY_ID_BYTES}sH")


def expand(seed: bytes | bytearray, label: bytes, info: bytes = b"") -> bytearray:
    """Return 32 bytes of HKDF-Expand-SHA512(seed, label | info), which the caller zeroes."""
    key = bytearray(KEY_BYTES)
    HKDFExpand(hashes.SHA512(), KEY_BYTES, label + info).derive_into(seed, key)
    return key


def wrap_dek(leaf_seed: bytes | bytearray, subject: Subject, dek: Dek, nonce: bytes) -> bytes:
    """Return the DEK wrapped for one recording, 60 bytes.

    Args:
        leaf_seed: 32 bytes, of the recording's leaf; left as it is.
        subject: the recording's ids, all bound in.
        dek: stays open.
        nonce: 12 random bytes.
    """
    secret = dek.reveal()
    try:
        return seal_message(leaf_seed, labels.WRAP, subject, secret, nonce)
    finally:
        wipe_bytes(secret)


def unwrap_dek(leaf_seed: bytes | bytearray, subject: Subject, wrapped: bytes) -> Dek:
    """Return the DEK out of the 60 bytes of ``wrap_dek``.

    Raises:
        IntegrityFailure: wrapped under another leaf, for other ids, or changed since.
    """
    if len(wrapped) != WRAPPED_DEK_BYTES:
        raise IntegrityFailure(what="wrapped-dek")
    bound = subject.binary()
    key = expand(leaf_seed, labels.WRAP, bound)
    secret = _open(key, wrapped, bound)
    try:
        return Dek(secret)
    finally:
        wipe(secret)


def seal_message(
    leaf_seed: bytes | bytearray,
    label: bytes,
    subject: Subject,
    clear: bytes,
    nonce: bytes,
    *,
    context: bytes = b"",
) -> bytes:
    """Return a small message sealed under a leaf: 28 bytes longer than ``clear``.

    Args:
        leaf_seed: 32 bytes; left as it is.
        label: one of ``labels``: what the message is.
        subject: whose it is; all its ids are bound in.
        clear: the message.
        nonce: 12 random bytes.
        context: further bytes that ``open_message`` must be given alike (a version, a field).
    """
    bound = subject.binary()
    key = expand(leaf_seed, label, bound)
    try:
        return _encrypt(key, clear, bound + context, nonce)
    finally:
        wipe(key)


def open_message(
    leaf_seed: bytes | bytearray,
    label: bytes,
    subject: Subject,
    sealed: bytes,
    *,
    context: bytes = b"",
) -> bytes:
    """Return the clear message of ``seal_message``.

    Raises:
        IntegrityFailure: another leaf, label, subject or context, or bytes changed since.
    """
    bound = subject.binary()
    return bytes(_open(expand(leaf_seed, label, bound), sealed, bound + context))


def mac(leaf_seed: bytes | bytearray, label: bytes, subject: Subject, message: bytes) -> bytes:
    """Return HMAC-SHA256 of ``message`` under a leaf, 32 bytes; gone with the leaf."""
    key = expand(leaf_seed, label, subject.binary())
    try:
        return hmac.digest(key, message, "sha256")
    finally:
        wipe(key)


@dataclass(frozen=True)
class BlobHead:
    """The clear head of a blob: whose it is and which key opens it; all of it authenticated.

    Attributes:
        controller_id: ``ctl_`` id. epoch: from 0.
        key_id: 32 lower-case hexadecimal digits, the provider's key that wraps the blob key.
        wrapped_blob_key: as the provider gave it, at most 65 535 bytes.
    """

    controller_id: str
    epoch: int
    key_id: str
    wrapped_blob_key: bytes


def blob_key_context(controller_id: str, epoch: int, key_id: str) -> bytes:
    """Return the context to give a provider when it wraps or unwraps a blob key.

    Raises:
        InvalidRequest: an id or the epoch is not well formed.
    """
    return labels.BLOB_KEY + _fixed_head(BlobHead(controller_id, epoch, key_id, b""))


def seal_blob(
    head: BlobHead, blob_key: bytes | bytearray, cover_buffer: bytes | bytearray, nonce: bytes
) -> bytes:
    """Return the blob of a cover; its name is its SHA-256.

    Args:
        head: goes in clear before the rest and is bound to it.
        blob_key: 32 random bytes drawn for this blob alone; left as they are.
        cover_buffer: ``Cover.buffer``.
        nonce: 12 random bytes.

    Raises:
        InvalidRequest: an id, the epoch or the wrapped key does not fit.
    """
    clear = _fixed_head(head) + head.wrapped_blob_key
    return clear + _encrypt(blob_key, cover_buffer, clear, nonce)


def read_blob_head(blob: bytes) -> BlobHead:
    """Return the head of a blob; true only once ``open_blob`` has accepted it.

    Raises:
        IntegrityFailure: not a blob, of another version, or cut short.
    """
    return _read_head(blob)[0]


def open_blob(blob: bytes, blob_key: bytes | bytearray) -> bytearray:
    """Return the cover's buffer, for ``Cover.from_buffer`` to take over.

    Raises:
        IntegrityFailure: not a blob, another key, or bytes changed since, the head included.
    """
    _, body = _read_head(blob)
    view = memoryview(blob)
    return _decrypt(blob_key, view[body:], bytes(view[:body]))


def _fixed_head(head: BlobHead) -> bytes:
    try:
        return _BLOB_HEAD.pack(
            BLOB_MAGIC,
            BLOB_VERSION,
            ids.to_bits(head.controller_id, _CONTROLLER),
            head.epoch,
            _key_id_bits(head.key_id),
            len(head.wrapped_blob_key),
        )
    except struct.error as err:
        raise InvalidRequest(what="blob-head") from err


def _key_id_bits(key_id: str) -> bytes:
    if not _KEY_ID.fullmatch(key_id):
        raise InvalidRequest(what="key-id")
    return bytes.fromhex(key_id)


def _read_head(blob: bytes) -> tuple[BlobHead, int]:
    try:
        fields = _BLOB_HEAD.unpack_from(blob)
    except struct.error as err:
        raise IntegrityFailure(what="blob") from err
    magic, version, controller, epoch, key_id, length = fields
    body = _BLOB_HEAD.size + length
    if (magic, version) != (BLOB_MAGIC, BLOB_VERSION) or len(blob) < body + NONCE_BYTES + TAG_BYTES:
        raise IntegrityFailure(what="blob")
    controller_id = ids.from_bits(_CONTROLLER, controller)
    return BlobHead(controller_id, epoch, key_id.hex(), blob[_BLOB_HEAD.size : body]), body


def _open(key: bytearray, sealed: bytes, bound: bytes) -> bytearray:
    """Open what lies under a key of ``expand``, and zero that key."""
    try:
        return _decrypt(key, memoryview(sealed), bound)
    finally:
        wipe(key)


def _encrypt(key: bytes | bytearray, clear: bytes | bytearray, bound: bytes, nonce: bytes) -> bytes:
    if len(nonce) != NONCE_BYTES:
        raise InvalidRequest(what="nonce")
    return nonce + AESGCM(key).encrypt(nonce, clear, bound)


def _decrypt(key: bytes | bytearray, sealed: memoryview, bound: bytes) -> bytearray:
    if len(sealed) < NONCE_BYTES + TAG_BYTES:
        raise IntegrityFailure(what="seal")
    clear = bytearray(len(sealed) - NONCE_BYTES - TAG_BYTES)
    try:
        AESGCM(key).decrypt_into(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound, clear)
    except InvalidTag as err:
        raise IntegrityFailure(what="seal") from err
    return clear
