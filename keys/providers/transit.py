"""Epoch keys in the transit engine of HashiCorp Vault or OpenBao: one named key for each epoch.

    transit:https://vault.example:8200/transit?token-file=/run/secrets/vault-token&ca-file=/etc/ca.pem
    ...&token-env=NAME    ...&namespace=calls    ...&name=vault-paris

A key is ``<key id>.<controller>.<epoch>``, aes256-gcm96, not exportable, without plaintext backup,
and may not be deleted until it is to be destroyed. Wrapping names the context as associated data:

    3 | length u8 | name | Vault's ciphertext | check 8

Destroying allows the deletion, deletes, and is confirmed when Vault twice lists the key no more.
The check is the first 8 bytes of SHA-256 over what stands before it.

The token needs create, read, update, delete and list on ``<mount>/keys/*`` and ``<mount>/keys``,
and **update only** on ``<mount>/encrypt/*`` and ``decrypt/*``: with create Vault makes a key for
whoever encrypts under a name that is gone. The token is read anew for each call.

Does not protect against: raft snapshots and backups of Vault, which hold the key
(``raft-snapshots``); Vault's root; the wrapped key's plaintext in Vault's own memory.

Source: HashiCorp Vault API, "Transit secrets engine"; OpenBao the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.material import wipe_bytes
from keys.ports import KeyTag, ListedKey
from keys.providers.key_folder import KEY_ID
from keys.providers.query import check_address, checked_name, options
from keys.providers.settling import settle
from keys.providers.transit_http import Address, TransitHttp

RAFT_SNAPSHOTS: Final = "raft-snapshots"
_SECRET_BYTES: Final = 32
_VERSION: Final = 3
_CHECK_BYTES: Final = 8
_NAME: Final = re.compile(r"([0-9a-f]{32})\.(ctl_[0-9a-z]{26})\.([0-9]{1,19})")
_MADE: Final[Mapping[str, object]] = {
    "type": "aes256-gcm96",
    "derived": False,
    "exportable": False,
    "allow_plaintext_backup": False,
}
_OPTIONS: Final = ("token-file", "token-env", "namespace", "ca-file", "name")


@dataclass(frozen=True)
class TransitProvider:
    """``keys.ports.KeyProvider`` over one mount of the transit engine."""

    http: TransitHttp
    name: str
    timeout_s: float

    @property
    def uri(self) -> str:
        """Return ``transit:`` and the provider's name."""
        return f"transit:{self.name}"

    @property
    def limits(self) -> tuple[str, ...]:
        """Say that snapshots of the storage hold the key."""
        return (RAFT_SNAPSHOTS,)

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Make a key, then look whether it is as asked for."""
        _check_id(key_id)
        if self._names(key_id):
            raise KeyUnavailable(what="key-id-taken", key_id=key_id)
        name = f"{key_id}.{tag.controller_id}.{tag.epoch}"
        self.http.call("POST", f"keys/{name}", _MADE)
        found = self.http.call("GET", f"keys/{name}").data
        if any(found.get(member) != wanted for member, wanted in _MADE.items()):
            raise KeyUnavailable(what="transit-key-not-as-asked", key_id=key_id)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return the keys of a controller."""
        found = (_NAME.fullmatch(name) for name in self._all())
        return [
            ListedKey(read[1], KeyTag(controller_id, int(read[3])))
            for read in sorted(filter(None, found), key=lambda one: one[0])
            if read[2] == controller_id
        ]

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Return Vault's ciphertext and the name it is under."""
        _check_id(key_id)
        if len(secret) != _SECRET_BYTES:
            raise InvalidRequest(what="secret")
        names = self._names(key_id)
        if not names:  # asked first: Vault may make a key for whoever encrypts under its name
            raise KeyUnavailable(what="epoch-key", key_id=key_id)
        said = {"plaintext": _base64(secret), "associated_data": _base64(context)}
        answer = self.http.call("POST", f"encrypt/{names[0]}", said)
        return _encode(names[0], str(answer.data["ciphertext"]))

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes."""
        _check_id(key_id)
        name, ciphertext = _decode(wrapped)
        if not name.startswith(f"{key_id}."):
            raise IntegrityFailure(what="wrapped-blob-key")
        said = {"ciphertext": ciphertext, "associated_data": _base64(context)}
        answer = self.http.call("POST", f"decrypt/{name}", said, expected=(200, 400, 404))
        if answer.status != 200:  # noqa: PLR2004 - Vault says 400 for both
            if not self._exists(name):
                raise KeyMissing(key_id=key_id, provider=self.uri)
            raise IntegrityFailure(what="wrapped-blob-key")
        clear = base64.b64decode(str(answer.data["plaintext"]), validate=True)
        secret = bytearray(clear)
        wipe_bytes(clear)
        return secret

    def destroy(self, key_id: str) -> None:
        """Allow the deletion and delete; return when Vault lists the key no more."""
        _check_id(key_id)
        try:
            for name in self._names(key_id):
                allowed = {"deletion_allowed": True}
                # a key that another shredder deleted meanwhile is as good as deleted here
                self.http.call("POST", f"keys/{name}/config", allowed, expected=(200, 204, 400))
                self.http.call("DELETE", f"keys/{name}", expected=(200, 204, 400))
            gone = settle(lambda: not self._names(key_id), within_s=self.timeout_s / 2)
        except KeyUnavailable as err:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri) from err
        if not gone:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri)

    def _all(self) -> list[str]:
        answer = self.http.call("LIST", "keys", expected=(200, 404))
        if answer.status == 404 and answer.errors:  # noqa: PLR2004 - an empty list has no errors
            raise KeyUnavailable(what="transit-mount-missing", provider=self.uri)
        return [str(name) for name in answer.data.get("keys", [])]

    def _names(self, key_id: str) -> list[str]:
        return [name for name in self._all() if name.startswith(f"{key_id}.")]

    def _exists(self, name: str) -> bool:
        answer = self.http.call("GET", f"keys/{name}", expected=(200, 404))
        if answer.status == 404 and answer.errors:  # noqa: PLR2004 - no such mount
            raise KeyUnavailable(what="transit-mount-missing", provider=self.uri)
        return answer.status == 200  # noqa: PLR2004


def open_transit(rest: str, timeout_s: float) -> TransitProvider:
    """Open the provider of a URI, given without its scheme; nothing is asked yet.

    Raises:
        InvalidRequest: no address, http to another machine, a token in the URI, no token source,
            or an unknown option.
    """
    address, _, query = rest.partition("?")
    given, parts = options(query, _OPTIONS), check_address(address)
    mount = parts.path.strip("/")
    if not re.fullmatch(r"[A-Za-z0-9_/-]{1,128}", mount):
        raise InvalidRequest(what="keys-uri", option="address")
    if ("token-file" in given) == ("token-env" in given):
        raise InvalidRequest(what="keys-uri", option="token-file")
    source = f"file:{given['token-file']}" if "token-file" in given else f"env:{given['token-env']}"
    name = checked_name(given.get("name", str(parts.hostname)))
    where = Address(
        host=str(parts.hostname),
        port=parts.port or 8200,
        tls=parts.scheme == "https",
        mount=mount,
        namespace=given.get("namespace", ""),
        ca_file=given.get("ca-file", ""),
    )
    return TransitProvider(TransitHttp(where, source, timeout_s / 4), name, timeout_s)


def _check_id(key_id: str) -> None:
    if not KEY_ID.fullmatch(key_id):
        raise InvalidRequest(what="key-id")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _encode(name: str, ciphertext: str) -> bytes:
    text = bytes([_VERSION, len(name)]) + name.encode() + ciphertext.encode()
    return text + _check(text)


def _decode(wrapped: bytes) -> tuple[str, str]:
    text, check = wrapped[:-_CHECK_BYTES], wrapped[-_CHECK_BYTES:]
    if check != _check(text) or text[:1] != bytes([_VERSION]) or not text.isascii():
        raise IntegrityFailure(what="wrapped-blob-key")
    name, ciphertext = text[2 : 2 + text[1]].decode(), text[2 + text[1] :].decode()
    if not _NAME.fullmatch(name):
        raise IntegrityFailure(what="wrapped-blob-key")
    return name, ciphertext


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_CHECK_BYTES]
