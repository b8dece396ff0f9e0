"""One PKCS#11 token: the only module that knows python-pkcs11.

A key is an AES-256 object, TOKEN, PRIVATE, SENSITIVE and not EXTRACTABLE, made in the token; its
CKA_ID is the key id, its CKA_LABEL what the caller says. It encrypts and decrypts AES-GCM, nothing
else. A token also holds one marker object: a session that lost its login, or another token under
the same label, shows no private objects, and without its marker an empty list says nothing.

The library is called by one thread at a time, as PKCS#11 demands of a caller that gave it no locks.
A session that broke is opened again once. A PIN that was refused is not tried again until it is
another one: trying would lock the token.

Does not protect against: a maker's library that does not keep its word; backups of the token.

Source: PKCS #11 v2.40, sections 4.4 (storage objects), 5.4, 5.6.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final, TypeVar

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11 import exceptions as token_errors

from core.errors import IntegrityFailure
from keys.errors import KeyMissing, KeyUnavailable
from keys.material import scrub_freed, wipe_bytes
from keys.providers.pkcs11_uri import Node
from keys.providers.query import read_secret

MARKER: Final = "oubliette marker"
KEY_LABEL: Final = "oubliette key "
_BUSY_S: Final = 5.0
_KEY_BITS: Final = 256
_TAG_BITS: Final = 128
_PROBE_BYTES: Final = 32
_BUFFER_BYTES: Final = 1_000  # more than is ever decrypted, and small enough for ``scrub_freed``
_RANDOM_BITS: Final = 64
_FINAL: Final = (
    token_errors.PinIncorrect,
    token_errors.PinInvalid,
    token_errors.PinLenRange,
    token_errors.PinLocked,
    token_errors.PinExpired,
    token_errors.UserPinNotInitialized,
    token_errors.NoSuchToken,
    token_errors.MultipleTokensReturned,
    token_errors.DeviceMemory,
    token_errors.MechanismInvalid,
)
_UNREADABLE: Final = (token_errors.ObjectHandleInvalid, token_errors.AttributeTypeInvalid)
_PIN_REFUSED: Final = _FINAL[:3]
_SAID: Final[dict[type[Exception], str]] = {
    token_errors.PinIncorrect: "pin-incorrect",
    token_errors.PinInvalid: "pin-incorrect",
    token_errors.PinLenRange: "pin-incorrect",
    token_errors.PinLocked: "pin-locked",
    token_errors.PinExpired: "pin-expired",
    token_errors.UserPinNotInitialized: "pin-not-set",
    token_errors.NoSuchToken: "token-missing",
    token_errors.TokenNotPresent: "token-missing",
    token_errors.DeviceRemoved: "token-missing",
    token_errors.MultipleTokensReturned: "token-ambiguous",
    token_errors.DeviceMemory: "token-full",
    token_errors.UserNotLoggedIn: "token-without-marker",
    token_errors.MechanismInvalid: "token-without-aes-gcm",
}
# one lock for each library, kept as long as the library is loaded: the process's end
_LOCKS: Final[defaultdict[str, threading.Lock]] = defaultdict(threading.Lock)

Result = TypeVar("Result")


class Token:
    """One node: its session, and the objects that are ours."""

    def __init__(self, node: Node) -> None:
        self.node: Final = node
        self._lock: Final = _LOCKS[node.module_path]
        self._session: Any = None
        self._refused_pin = b""

    def objects(self) -> dict[bytes, str]:
        """Return id and label of every object of ours, markers included.

        Without a marker it is what a session shows that has just logged in.

        Raises:
            KeyUnavailable: no answer.
        """

        def work(session: Any) -> dict[bytes, str]:
            found = _ours(session)
            if not _is_marked(found):  # a new token, or a session without login: look once more
                self._leave()
                found = _ours(self._ready())
            return {one.id: one.label for one in found}

        return self._run(work)

    def generate(self, key_id: bytes, label: str) -> None:
        """Make a key that never leaves the token.

        Raises:
            KeyUnavailable: it may exist now; ``key-id-taken`` when one with this id was there.
        """

        def work(session: Any) -> None:
            found = _ours(session) if label == MARKER else _marked(session)
            if any(one.id == key_id for one in found):
                raise KeyUnavailable(what="key-id-taken", key_id=key_id.hex())
            session.generate_key(
                KeyType.AES,
                _KEY_BITS,
                id=key_id,
                label=label,
                store=True,
                capabilities=MechanismFlag.ENCRYPT | MechanismFlag.DECRYPT,
                template={
                    Attribute.PRIVATE: True,
                    Attribute.SENSITIVE: True,
                    Attribute.EXTRACTABLE: False,
                    Attribute.WRAP: False,
                    Attribute.UNWRAP: False,
                },
            )

        self._run(work)

    def encrypt(self, key_id: bytes, nonce: bytes, clear: bytes, context: bytes) -> bytes:
        """Return ciphertext and tag under a key.

        Raises:
            KeyMissing: the token has no such key. KeyUnavailable: no answer.
        """
        return self._run(lambda session: _sealed(_key(session, key_id), nonce, clear, context))

    def decrypt(self, key_id: bytes, nonce: bytes, sealed: bytes, context: bytes) -> bytearray:
        """Return what was encrypted.

        Raises:
            KeyMissing: the token has no such key. KeyUnavailable: no answer.
            IntegrityFailure: other bytes, another key or another context.
        """

        def work(session: Any) -> bytearray:
            key = _key(session, key_id)
            try:
                found = key.decrypt(sealed, buffer_size=_BUFFER_BYTES, **_gcm(nonce, context))
            except token_errors.PKCS11Error as err:
                # tokens do not agree on how to say it: a key that works refused these bytes
                _sealed(key, nonce, bytes(_PROBE_BYTES), b"")
                raise IntegrityFailure(what="wrapped-blob-key") from err
            try:
                return bytearray(found)
            finally:
                wipe_bytes(found)
                scrub_freed(_BUFFER_BYTES)  # the library frees its own copy as it is

        return self._run(work)

    def destroy(self, key_id: bytes) -> None:
        """Destroy a key, and ask the token whether any of that id is left.

        Raises:
            KeyUnavailable: it may still exist.
        """

        def work(session: Any) -> None:
            for one in _marked(session):
                if one.id == key_id and one.label != MARKER:
                    one.destroy()
            if any(one.id == key_id for one in _marked(session)):
                raise KeyUnavailable(what="key-still-there", key_id=key_id.hex())

        self._run(work)

    def _run(self, work: Callable[[Any], Result]) -> Result:
        if not self._lock.acquire(timeout=_BUSY_S):
            raise KeyUnavailable(what="token-busy", token=self.node.token)
        try:
            return self._run_alone(work)
        except token_errors.PKCS11Error as err:
            what = _SAID.get(type(err), "token-failed")
            raise KeyUnavailable(what=what, token=self.node.token) from err
        finally:
            self._lock.release()

    def _run_alone(self, work: Callable[[Any], Result]) -> Result:
        try:
            return work(self._ready())
        except _FINAL:
            raise
        except token_errors.PKCS11Error:
            self._leave()
            return work(self._ready())

    def _ready(self) -> Any:
        if self._session is None:
            self._session = self._open()
        self._session.generate_random(_RANDOM_BITS)  # fails here, not inside a search
        return self._session

    def _open(self) -> Any:
        pin = read_secret(self.node.pin_source)
        digest = hashlib.sha256(pin.encode()).digest()
        if digest == self._refused_pin:
            raise KeyUnavailable(what="pin-incorrect", token=self.node.token)
        wanted: dict[str, Any] = {"token_label": self.node.token}
        if self.node.serial:
            wanted["token_serial"] = self.node.serial.encode()
        token = pkcs11.lib(self.node.module_path).get_token(**wanted)
        try:
            return token.open(rw=True, user_pin=pin)
        except token_errors.UserAlreadyLoggedIn:  # by another session of this process
            return token.open(rw=True)
        except _PIN_REFUSED:
            self._refused_pin = digest
            raise

    def _leave(self) -> None:
        session, self._session = self._session, None
        with contextlib.suppress(token_errors.PKCS11Error):
            if session is not None:
                session.close()


def _ours(session: Any) -> list[Any]:
    """Return our objects as the token shows them now; a destroyed one is not among them."""
    found = []
    for one in list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY})):
        with contextlib.suppress(
            token_errors.ObjectHandleInvalid, token_errors.AttributeTypeInvalid
        ):
            if one.label == MARKER or str(one.label).startswith(KEY_LABEL):
                found.append(one)
    return found


def _is_marked(objects: list[Any]) -> bool:
    return any(one.label == MARKER for one in objects)


def _marked(session: Any) -> list[Any]:
    """Return our objects; an answer without the marker is none."""
    found = _ours(session)
    if not _is_marked(found):
        raise token_errors.UserNotLoggedIn
    return found


def _key(session: Any, key_id: bytes) -> Any:
    for one in _marked(session):
        if one.id == key_id and one.label != MARKER:
            return one
    raise KeyMissing(key_id=key_id.hex())


def _sealed(key: Any, nonce: bytes, clear: bytes, context: bytes) -> bytes:
    return bytes(key.encrypt(clear, **_gcm(nonce, context)))


def _gcm(nonce: bytes, context: bytes) -> dict[str, Any]:
    parameters = GCMParams(nonce, context, _TAG_BITS)
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": parameters}
