"""Epoch keys in PKCS#11 tokens: one key in each node, the blob key wrapped once for each.

Keys never leave the node that made them, so nothing has to be copied between nodes, and destroying
is confirmed by every node. A wrapped blob key:

    1 | nodes u8 | for each node: mark 8, nonce 12, AES-256-GCM(secret 32) and tag 48 | check 8

The check is the first 8 bytes of SHA-256 over what stands before it: bytes that rotted are refused
even when one node's part still opens. Any node that answers opens it. Making, wrapping, listing and
destroying need every node: while one is away recordings play, and erasures wait.

Nodes share a marker object, as key folders share a file; a node without it is another token, or
shows nothing because its login was lost.

Does not protect against: backups that the HSM's own tools make of its keys (``hsm-backups``).

Source: NIST SP 800-38D (GCM with random 96-bit nonces), SP 800-57 part 1 rev. 5 section 8.3.4.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.ports import KeyTag, ListedKey
from keys.providers.key_folder import KEY_ID
from keys.providers.pkcs11 import KEY_LABEL, MARKER, Token
from keys.providers.pkcs11_uri import name_of

HSM_BACKUPS: Final = "hsm-backups"
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_MARK_BYTES: Final = 8
_ID_BYTES: Final = 16
_CHECK_BYTES: Final = 8
_PART_BYTES: Final = _MARK_BYTES + _NONCE_BYTES + _SECRET_BYTES + 16
_VERSION: Final = 1
_LABEL: Final = re.compile(re.escape(KEY_LABEL) + r"(ctl_[0-9a-z]{26}) ([0-9]{1,19})")


@dataclass(frozen=True)
class HsmProvider:
    """``keys.ports.KeyProvider`` over one or more tokens."""

    tokens: Sequence[Token]

    @property
    def uri(self) -> str:
        """Return ``pkcs11:`` and the provider's name: no path and no PIN."""
        return f"pkcs11:{name_of(tuple(token.node for token in self.tokens))}"

    @property
    def limits(self) -> tuple[str, ...]:
        """Say that backups of the HSM are out of reach."""
        return (HSM_BACKUPS,)

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Make a key in every node, one after another."""
        name = _id(key_id)
        self._shown()
        for token in self.tokens:
            token.generate(name, f"{KEY_LABEL}{tag.controller_id} {tag.epoch}")

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return the keys that live in any node; every node must answer.

        Raises:
            KeyUnavailable: one does not, or is not the node it was.
        """
        found: dict[str, KeyTag] = {}
        for objects in self._shown():
            for name, label in objects.items():
                read = _LABEL.fullmatch(label)
                if read and read[1] == controller_id:
                    found[name.hex()] = KeyTag(controller_id, int(read[2]))
        return [ListedKey(name, tag) for name, tag in sorted(found.items())]

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Return the secret wrapped once for every node."""
        name = _id(key_id)
        if len(secret) != _SECRET_BYTES:
            raise InvalidRequest(what="secret")
        try:
            parts = [_part(token, name, secret, context) for token in self.tokens]
        except KeyMissing as err:
            raise KeyUnavailable(what="epoch-key", key_id=key_id) from err
        text = bytes([_VERSION, len(parts)]) + b"".join(parts)
        return text + _check(text)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes from the first node that opens its part.

        ``KeyMissing`` only when every node says so.
        """
        name, parts = _id(key_id), _parts(wrapped)
        missing: list[KeyMissing] = []
        others: list[Exception] = []
        for token in self.tokens:
            try:
                return _opened(token, name, parts, context)
            except KeyMissing as err:
                missing.append(err)
            except (KeyUnavailable, IntegrityFailure) as err:
                others.append(err)
        if not others:
            raise KeyMissing(key_id=key_id, provider=self.uri) from missing[0]
        if all(isinstance(err, IntegrityFailure) for err in others):
            raise IntegrityFailure(what="wrapped-blob-key") from others[0]
        raise KeyUnavailable(what="epoch-key", key_id=key_id) from others[0]

    def destroy(self, key_id: str) -> None:
        """Destroy the key in every node; each confirms by a fresh search."""
        name = _id(key_id)
        try:
            self._shown()
            for token in self.tokens:
                token.destroy(name)
        except KeyUnavailable as err:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri) from err

    def _shown(self) -> list[Mapping[bytes, str]]:
        """Return what each node shows, once all of them have proved to be nodes of this provider.

        New tokens get a marker at the first call, the first node last: a node without one beside a
        marked first node, or beside keys, is missing and not new.
        """
        shown = [token.objects() for token in self.tokens]
        marks = _marks(shown)
        if not marks[0] and not any(set(one.values()) - {MARKER} for one in shown):
            known = set.union(*marks)
            marker = min(known) if known else secrets.token_bytes(_ID_BYTES)
            for token, have in reversed(list(zip(self.tokens, marks, strict=True))):
                if marker not in have:
                    token.generate(marker, MARKER)
            shown = [token.objects() for token in self.tokens]
        if not set.intersection(*_marks(shown)):
            raise KeyUnavailable(what="token-without-marker", provider=self.uri)
        return list(shown)


def _id(key_id: str) -> bytes:
    if not KEY_ID.fullmatch(key_id):
        raise InvalidRequest(what="key-id")
    return bytes.fromhex(key_id)


def _marks(shown: Sequence[Mapping[bytes, str]]) -> list[set[bytes]]:
    return [{name for name, label in one.items() if label == MARKER} for one in shown]


def _part(token: Token, name: bytes, secret: bytes, context: bytes) -> bytes:
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return token.node.mark + nonce + token.encrypt(name, nonce, secret, context)


def _opened(token: Token, name: bytes, parts: Mapping[bytes, bytes], context: bytes) -> bytearray:
    part = parts.get(token.node.mark)
    if part is None:  # wrapped before this node was there
        raise IntegrityFailure(what="wrapped-blob-key")
    return token.decrypt(name, part[:_NONCE_BYTES], part[_NONCE_BYTES:], context)


def _parts(wrapped: bytes) -> dict[bytes, bytes]:
    """Return nonce and ciphertext of each node by its mark."""
    text, check = wrapped[:-_CHECK_BYTES], wrapped[-_CHECK_BYTES:]
    whole = len(text) > 1 and text[0] == _VERSION and len(text) == 2 + text[1] * _PART_BYTES
    if not whole or check != _check(text):
        raise IntegrityFailure(what="wrapped-blob-key")
    parts = [text[at : at + _PART_BYTES] for at in range(2, len(text), _PART_BYTES)]
    return {part[:_MARK_BYTES]: part[_MARK_BYTES:] for part in parts}


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_CHECK_BYTES]
