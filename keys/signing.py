"""The vault's signing key, signed notes, and the key behind pseudonyms.

A *note* is text signed by a named key (C2SP signed-note):

    text lines | blank line | "— " name " " base64(key id 4 | Ed25519 signature 64) newline

Checkpoints, receipts and certificates are notes of the same key, told apart by their first line.
A verifier key (*vkey*) is ``name+<key id, 8 hex>+base64(0x01 | public key 32)``; the key id is the
first four bytes of SHA-256(name | newline | 0x01 | public key).

Two files of 32 random bytes, mode 0600, stand in the folder of a ``local:`` address, beside the
epoch keys and never among them: ``signing.key`` (an Ed25519 seed) and ``pseudonym.key``.

Does not protect against: whoever reads ``signing.key`` signs in the vault's name; only an outside
anchor shows that. A rotated key is gone from here, but whoever stole it before still signs with it.
Losing ``pseudonym.key`` gives every actor a new pseudonym, nothing worse.

Source: C2SP signed-note; RFC 8032; RFC 2104.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core import ids
from core.errors import IntegrityFailure, InvalidRequest
from keys import labels
from keys.secret_file import load_or_create_secret, load_secret, promote_secret
from keys.vkey_file import read_old_vkeys, write_old_vkeys

SIGNING_KEY_FILE: Final = "signing.key"
NEXT_KEY_FILE: Final = "signing.next.key"
PSEUDONYM_KEY_FILE: Final = "pseudonym.key"
NOTE_CHARACTERS_MAX: Final = 4 * 1024 * 1024
SIGNATURES_MAX: Final = 32
ED25519: Final = 0x01
_KEY_ID_BYTES: Final = 4
_ED25519_KEY_BYTES: Final = 32
_NAME: Final = re.compile(r"[^\s+\x00-\x1f\x7f]{1,200}")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SIGNATURE_LINE: Final = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True)
class NoteSigner:
    """Signs notes under one name with one Ed25519 key.

    A running process follows a rotation: ``renew`` reads the key again, and from then on every
    holder of this signer signs with the new one.

    Attributes:
        name: the key's name, for a ledger its origin; no spaces, no plus sign.
        old_vkeys: verifier keys of before a rotation, newest first.
        outgoing: signs as well, while this key takes over from it.
    """

    name: str
    _key: Ed25519PrivateKey = field(repr=False)
    old_vkeys: tuple[str, ...] = ()
    outgoing: NoteSigner | None = None
    _uri: str = ""
    _newer: list[NoteSigner] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def load(cls, uri: str, name: str) -> NoteSigner:
        """Read the key of a ``local:<folder>`` address.

        Raises:
            KeyMissing: there is none. KeyUnavailable: the folder cannot be read.
            IntegrityFailure: the file is not 32 bytes, or others may read it.
        """
        seed = load_secret(uri, SIGNING_KEY_FILE)
        return replace(cls._from_seed(seed, name, read_old_vkeys(uri)), _uri=uri)

    @classmethod
    def load_or_create(cls, uri: str, name: str) -> NoteSigner:
        """Read the key of a ``local:<folder>`` address; make it, durably, when there is none.

        Two processes that do this at once end with the same key.

        Raises:
            KeyUnavailable: the folder cannot be read or written.
            IntegrityFailure: the file is not 32 bytes, or others may read it.
        """
        seed = load_or_create_secret(uri, SIGNING_KEY_FILE)
        return replace(cls._from_seed(seed, name, read_old_vkeys(uri)), _uri=uri)

    @classmethod
    def _from_seed(cls, seed: bytes, name: str, old_vkeys: Sequence[str]) -> NoteSigner:
        signer = cls(_check_name(name), Ed25519PrivateKey.from_private_bytes(seed))
        old = tuple(one for one in old_vkeys if one != signer.vkey)
        for one in old:
            _read_vkey(one)
        return replace(signer, old_vkeys=old)

    def successor(self, uri: str) -> NoteSigner:
        """Return the key that takes over from this one, made when there is none waiting.

        Its notes carry this key's signature too, until ``hand_over`` has put it in place.

        Raises:
            As ``load_or_create``.
        """
        seed = load_or_create_secret(uri, NEXT_KEY_FILE)
        new = self._from_seed(seed, self.name, self.vkeys)
        return replace(new, outgoing=self)

    def hand_over(self, uri: str) -> NoteSigner:
        """Put a successor in place; the key it took over from is destroyed, its vkey is kept.

        Raises:
            KeyMissing: it is in place already. KeyUnavailable: the folder cannot be written.
        """
        write_old_vkeys(uri, self.old_vkeys)
        promote_secret(uri, NEXT_KEY_FILE, SIGNING_KEY_FILE)
        return replace(self, outgoing=None)

    def renew(self) -> bool:
        """Follow a rotation, if there was one; tell whether there was.

        Raises:
            IntegrityFailure: another key lies there, which did not take over from the one in force.
            KeyMissing, KeyUnavailable: it cannot be read now; the key in force stays.
        """
        if not self._uri:
            return False
        read = NoteSigner.load(self._uri, self.name)
        if read.vkey == self.vkey:
            return False
        if self.vkey not in read.old_vkeys:
            raise IntegrityFailure(what="signing-key")
        self._newer[:] = [read]
        return True

    @property
    def _in_force(self) -> NoteSigner:
        return self._newer[0] if self._newer else self

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Return every verifier key whose notes are this vault's, newest first."""
        return (self.vkey, *self._in_force.old_vkeys)

    @property
    def vkey(self) -> str:
        """Return the verifier key, for anyone to hold."""
        typed = bytes([ED25519]) + self._in_force._key.public_key().public_bytes_raw()  # noqa: SLF001
        encoded = base64.b64encode(typed).decode("ascii")
        return f"{self.name}+{_key_id(self.name, typed).hex()}+{encoded}"

    def sign(self, text: str) -> str:
        """Return ``text`` as a signed note; the same text gives the same note.

        Raises:
            InvalidRequest: the text does not end in a newline, or holds a control character.
        """
        if not text.endswith("\n") or len(text) > NOTE_CHARACTERS_MAX or _CONTROL.search(text):
            raise InvalidRequest(what="note-text")
        key = self._in_force._key  # noqa: SLF001 - of this class
        try:
            signature = key.sign(text.encode())
        except UnicodeEncodeError as err:
            raise InvalidRequest(what="note-text") from err
        typed = bytes([ED25519]) + key.public_key().public_bytes_raw()
        line = base64.b64encode(_key_id(self.name, typed) + signature).decode("ascii")
        also = self.outgoing.sign(text)[len(text) + 1 :] if self.outgoing else ""
        return f"{text}\n— {self.name} {line}\n{also}"


def verify_note(note: str, *vkeys: str) -> str:
    """Return the text of a note once a known key's signature over it holds.

    Lines of unknown keys are ignored; one bad signature of a known key refuses the whole note.

    Args:
        note: as ``NoteSigner.sign`` gives it, with up to 32 signatures.
        vkeys: the verifier keys to trust (after a rotation the old ones too).

    Raises:
        IntegrityFailure: malformed, signed by nobody known, or not what was signed.
        InvalidRequest: a verifier key is malformed.

    Source: C2SP signed-note, "Signatures".
    """
    text, signatures = _split(note)
    known = dict(_read_vkey(one) for one in vkeys)
    message = text.encode()
    verified = 0
    for key, signature in signatures:
        verifier = known.get(key)
        if verifier is not None:
            verifier(signature, message)
            verified += 1
    if verified == 0:
        raise IntegrityFailure(what="note-signature")
    return text


_KeyName = tuple[str, bytes]
_Verifier = Callable[[bytes, bytes], None]


def _split(note: str) -> tuple[str, list[tuple[_KeyName, bytes]]]:
    cut = note.rfind("\n\n")
    malformed = len(note) > NOTE_CHARACTERS_MAX + 8192 or cut < 0 or _CONTROL.search(note)
    if malformed or not note.endswith("\n") or not _is_unicode(note):
        raise IntegrityFailure(what="note")
    lines = note[cut + 2 : -1].split("\n")
    if len(lines) > SIGNATURES_MAX:
        raise IntegrityFailure(what="note")
    return note[: cut + 1], [_read_signature(line) for line in lines]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_signature(line: str) -> tuple[_KeyName, bytes]:
    match = _SIGNATURE_LINE.fullmatch(line)
    raw = _decode(match[2]) if match else b""
    if match is None or len(raw) <= _KEY_ID_BYTES:
        raise IntegrityFailure(what="note")
    return (match[1], raw[:_KEY_ID_BYTES]), raw[_KEY_ID_BYTES:]


def _decode(text: str) -> bytes:
    """Return the bytes of canonical base64, else nothing."""
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
    return raw if base64.b64encode(raw).decode("ascii") == text else b""


def _read_vkey(vkey: str) -> tuple[_KeyName, _Verifier]:
    name, _, rest = vkey.partition("+")
    hex_id, _, encoded = rest.partition("+")
    typed = _decode(encoded)
    maker = _SIGNATURE_TYPES.get(typed[0]) if typed else None
    if maker is None or hex_id != _key_id(name, typed).hex():
        raise InvalidRequest(what="vkey")
    return (_check_name(name), bytes.fromhex(hex_id)), maker(typed[1:])


def _ed25519(public_key: bytes) -> _Verifier:
    if len(public_key) != _ED25519_KEY_BYTES:
        raise InvalidRequest(what="vkey")
    key = Ed25519PublicKey.from_public_bytes(public_key)

    def verify(signature: bytes, message: bytes) -> None:
        try:
            key.verify(signature, message)
        except InvalidSignature as err:
            raise IntegrityFailure(what="note-signature") from err

    return verify


_SIGNATURE_TYPES: Final[Mapping[int, Callable[[bytes], _Verifier]]] = {ED25519: _ed25519}
"""Signature types of C2SP signed-note that are understood; ML-DSA-44 (0x06) has a place here."""


def _key_id(name: str, typed_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + typed_key).digest()[:_KEY_ID_BYTES]


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name) or not _is_unicode(name):
        raise InvalidRequest(what="key-name")
    return name


@dataclass(frozen=True)
class Pseudonyms:
    """Names actors by a keyed digest, so that clear columns hold no login, mail address or person.

    Attributes:
        _key: 32 bytes, the same in every replica of a vault.
    """

    _key: bytes = field(repr=False)

    @classmethod
    def load_or_create(cls, uri: str) -> Pseudonyms:
        """Read ``pseudonym.key`` of a ``local:<folder>`` address; make it when there is none.

        Raises:
            KeyUnavailable: the folder cannot be read or written.
            IntegrityFailure: the file is not 32 bytes, or others may read it.
        """
        return cls(load_or_create_secret(uri, PSEUDONYM_KEY_FILE))

    def actor_id(self, issuer: str, subject: str) -> str:
        """Return the ``act_`` id of one subject of one issuer; the same at each call."""
        named = issuer.encode()
        message = len(named).to_bytes(4, "big") + named + subject.encode()
        digest = hmac.digest(self._key, labels.ACTOR + message, hashlib.sha256)
        return ids.from_bits("act_", digest[: ids.ID_BYTES])

    def mac_key(self, label: bytes) -> bytes:
        """Return 32 bytes for MACs that every replica must agree on (page cursors).

        Args:
            label: one of ``keys.labels``.
        """
        return hmac.digest(self._key, labels.SHARED_MAC + label, hashlib.sha256)
