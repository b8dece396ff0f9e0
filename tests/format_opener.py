"""Open a sealed recording knowing nothing but ``docs/format.md``.

    python tests/format_opener.py --blob BLOB --key KEYFILE [--key ...] --out AUDIO OBJECT

Writes the clear audio to AUDIO and prints ids, metadata and length as one JSON object. Several keys
and blobs may be given; every pair is tried. Exit status 1 when nothing opens the object.

Nothing of the product is imported: only the standard library and AES-256-GCM of ``cryptography``.
The numbers in comments are the sections of ``docs/format.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import hmac
import json
import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HEADER_BYTES = 4096
SEALED_CHUNK_BYTES = 16_400
DEPTH = 48
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
BLOB_HEAD = struct.Struct(">8sB16sQ16sH")


class CannotOpenError(Exception):
    """These bytes do not open with these keys, or are not of the format."""


@dataclass(frozen=True)
class Header:
    """Section 1."""

    controller: bytes
    campaign: bytes
    recording: bytes
    prefix: int
    index: int
    wrapped_dek: bytes
    sealed_metadata: bytes

    @property
    def ids(self) -> bytes:
        """Return the 54 bytes that every seal of the recording is bound to."""
        return b"".join(
            (
                self.controller,
                self.campaign,
                self.recording,
                self.prefix.to_bytes(2, "big"),
                self.index.to_bytes(4, "big"),
            )
        )


def read_header(raw: bytes) -> Header:
    """Section 1: the first 4 096 bytes of an object."""
    require(len(raw) == HEADER_BYTES and raw[:10] == b"OUBLIETTE\n", "magic")
    require(raw[10:12] == b"\x00\x01", "version")
    length = int.from_bytes(raw[126:128], "big")
    require(length == 0 or 28 <= length <= HEADER_BYTES - 128, "length of the metadata")
    require(not any(raw[128 + length :]), "padding")
    return Header(
        controller=raw[12:28],
        campaign=raw[28:44],
        recording=raw[44:60],
        prefix=int.from_bytes(raw[60:62], "big"),
        index=int.from_bytes(raw[62:66], "big"),
        wrapped_dek=raw[66:126],
        sealed_metadata=raw[128 : 128 + length],
    )


def spell(prefix: str, bits: bytes) -> str:
    """Section 2: 16 bytes as an id."""
    number = int.from_bytes(bits, "big")
    return prefix + "".join(ALPHABET[number >> 5 * place & 31] for place in reversed(range(26)))


def expand(key: bytes, info: bytes, length: int) -> bytes:
    """Section 2: HKDF-Expand with SHA-512 (RFC 5869 section 2.3)."""
    result = block = b""
    counter = 1
    while len(result) < length:
        block = hmac.digest(key, block + info + bytes([counter]), "sha512")
        result += block
        counter += 1
    return result[:length]


def unseal(key: bytes, sealed: bytes, bound: bytes) -> bytes:
    """Section 2: nonce 12 | ciphertext | tag 16."""
    require(len(sealed) >= 28, "length of a seal")
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], bound)
    except InvalidTag as err:
        raise CannotOpenError("a seal does not open") from err


def read_epoch_key(content: bytes) -> bytes:
    """Section 7: a key file of the ``local:`` provider."""
    require(len(content) == 72 and content[:8] == b"OUBLEKEY", "key file")
    require(hashlib.sha256(content[:32]).digest()[:8] == content[32:40], "check of a key file")
    return content[40:]


def open_cover(blob: bytes, epoch_key: bytes) -> bytes:
    """Section 6: the records of a controller's cover."""
    require(len(blob) >= BLOB_HEAD.size, "length of a blob")
    magic, version, controller, epoch, key_id, length = BLOB_HEAD.unpack_from(blob)
    require(magic == b"OUBLCOVR" and version == 1, "blob")
    body = BLOB_HEAD.size + length
    context = b"oubliette/blob-key/v1" + BLOB_HEAD.pack(magic, 1, controller, epoch, key_id, 0)
    blob_key = unseal(epoch_key, blob[BLOB_HEAD.size : body], context)
    return unseal(blob_key, blob[body:], blob[:body])


def blob_controller(blob: bytes) -> bytes:
    """Section 6: whose tree a blob is of."""
    return blob[9:25]


def leaf_seed(cover: bytes, prefix: int, index: int) -> bytes:
    """Section 5: the seed of one leaf, from the record that stands above it."""
    leaf = prefix << 32 | index
    for at in range(0, len(cover), 39):
        start = int.from_bytes(cover[at : at + 6], "big")
        depth = cover[at + 6]
        if leaf >> (DEPTH - depth) == start >> (DEPTH - depth):
            seed = cover[at + 7 : at + 39]
            for level in range(depth, DEPTH):
                bit = leaf >> (DEPTH - 1 - level) & 1
                seed = hmac.digest(seed, b"oubliette/tree/v1" + bytes([bit]), "sha256")
            return seed
    raise CannotOpenError("the leaf is punctured")


def context_of(header: Header) -> bytes:
    """Section 4: what a body is bound to."""
    canonical = json.dumps(
        {
            "campaign": spell("cmp_", header.campaign),
            "controller": spell("ctl_", header.controller),
            "format": "oubliette/sealed/v1",
            "index": header.index,
            "prefix": header.prefix,
            "recording": spell("rec_", header.recording),
        },
        separators=(",", ":"),
        sort_keys=True,
    )
    return hashlib.sha256(canonical.encode()).digest()


def open_dek(header: Header, seed: bytes) -> bytes:
    """Section 3: the recording's key."""
    return unseal(
        expand(seed, b"oubliette/wrap/v1" + header.ids, 32), header.wrapped_dek, header.ids
    )


def open_metadata(header: Header, seed: bytes) -> dict[str, object]:
    """Section 3: what the sender said, as the object keeps it."""
    if not header.sealed_metadata:
        return {}
    key = expand(seed, b"oubliette/metadata/v1" + header.ids, 32)
    members: dict[str, object] = json.loads(unseal(key, header.sealed_metadata, header.ids))
    return members


def open_body(dek: bytes, context: bytes, body: BinaryIO) -> Iterator[bytes]:
    """Section 4: the clear audio; whole only when this ends without an error."""
    head = body.read(56)
    require(len(head) == 56, "length of the body")
    info = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0" + head[:24] + context
    derived = expand(dek, info, 76)
    require(hmac.compare_digest(derived[44:], head[24:]), "commitment")
    aead, base = AESGCM(derived[:32]), int.from_bytes(derived[32:44], "big")
    number = 0
    while True:
        sealed = body.read(SEALED_CHUNK_BYTES)
        nonce = (base ^ number).to_bytes(12, "big")
        try:
            yield aead.decrypt(nonce, sealed, None)
        except (InvalidTag, ValueError) as err:
            raise CannotOpenError(f"chunk {number} does not open") from err
        if len(sealed) < SEALED_CHUNK_BYTES:
            require(not body.read(1), "end of the body")
            return
        number += 1


@dataclass(frozen=True)
class Opened:
    """One recording's header, key and metadata."""

    header: Header
    dek: bytes
    metadata: dict[str, object]

    def audio(self, body: BinaryIO) -> Iterator[bytes]:
        """Yield the clear audio of the body that follows the header."""
        return open_body(self.dek, context_of(self.header), body)


def open_header(raw: bytes, blobs: Iterable[bytes], key_files: Iterable[bytes]) -> Opened:
    """Try every key on every blob of the object's controller until the DEK opens."""
    header = read_header(raw)
    keys = [read_epoch_key(content) for content in key_files]
    for blob in blobs:
        if blob_controller(blob) != header.controller:
            continue
        for key in keys:
            try:
                seed = leaf_seed(open_cover(blob, key), header.prefix, header.index)
                return Opened(header, open_dek(header, seed), open_metadata(header, seed))
            except CannotOpenError:
                continue
    raise CannotOpenError("no key and blob at hand opens this object")


def require(condition: bool, what: str) -> None:  # reads as a sentence where it is used
    """Refuse what is not of the format."""
    if not condition:
        raise CannotOpenError(what)


def main(arguments: list[str]) -> int:
    """Run as a script; returns the exit status."""
    parser = argparse.ArgumentParser(description="Open a sealed recording.")
    parser.add_argument("object", type=Path)
    parser.add_argument("--blob", type=Path, action="append", required=True)
    parser.add_argument("--key", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    try:
        with given.object.open("rb") as sealed, given.out.open("wb") as clear:
            opened = open_header(
                sealed.read(HEADER_BYTES),
                [path.read_bytes() for path in given.blob],
                [path.read_bytes() for path in given.key],
            )
            length = sum(clear.write(piece) for piece in opened.audio(sealed))
    except CannotOpenError as err:
        given.out.unlink(missing_ok=True)
        sys.stderr.write(f"{err}\n")
        return 1
    recording = spell("rec_", opened.header.recording)
    print(json.dumps({"recording": recording, "bytes": length, "metadata": opened.metadata}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
