"""Opens an age v1 file with the specification alone (C2SP age.md): no code of the sealing library.

age-encryption.org/v1
-> X25519 <ephemeral share>
<wrapped file key>
--- <MAC>
nonce 16 | chunks of 64 KiB, ChaCha20-Poly1305, nonce = counter 11 | last 1
"""

from __future__ import annotations

import base64
import hmac

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_CHARSET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_CHUNK = 64 * 1024 + 16


def open_age(sealed: bytes, identity: str) -> bytes:
    """Return the clear bytes; raises when any byte is wrong or the end is missing."""
    header, _, rest = sealed.partition(b"\n---")
    mac, _, body = rest.partition(b"\n")
    lines = header.decode().split("\n")
    assert lines[0] == "age-encryption.org/v1"
    stanza = lines.index(next(one for one in lines if one.startswith("-> X25519 ")))
    file_key = _unwrapped(lines[stanza].split(" ")[2], lines[stanza + 1], identity)
    expected = hmac.digest(_derived(file_key, b"", b"header"), header + b"\n---", "sha256")
    assert hmac.compare_digest(_plain(mac.decode().strip()), expected)
    cipher = ChaCha20Poly1305(_derived(file_key, body[:16], b"payload"))
    return _payload(cipher, body[16:])


def _payload(cipher: ChaCha20Poly1305, body: bytes) -> bytes:
    clear, count = b"", (len(body) + _CHUNK - 1) // _CHUNK
    for n in range(count):
        last = n == count - 1
        nonce = n.to_bytes(11, "big") + bytes([last])
        clear += cipher.decrypt(nonce, body[n * _CHUNK : (n + 1) * _CHUNK], None)
    return clear


def _unwrapped(share: str, wrapped: str, identity: str) -> bytes:
    private = X25519PrivateKey.from_private_bytes(_bech32(identity.lower()))
    ephemeral = _plain(share)
    shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    salt = ephemeral + private.public_key().public_bytes(*raw)
    key = _derived(shared, salt, b"age-encryption.org/v1/X25519")
    return ChaCha20Poly1305(key).decrypt(bytes(12), _plain(wrapped), None)


def _derived(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def _plain(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


def _bech32(text: str) -> bytes:
    """Return the 32 bytes of an identity; the checksum is for eyes, not for this."""
    digits = [_CHARSET.index(one) for one in text.rpartition("1")[2][:-6]]
    number = 0
    for digit in digits:
        number = number << 5 | digit
    bits = 5 * len(digits)
    return (number >> (bits % 8)).to_bytes(bits // 8, "big")
