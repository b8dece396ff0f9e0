"""Vault's transit engine, as far as epoch keys use it, and as strict about their configuration.

Refuses unknown paths, methods and members, and a token it does not know; keeps a key until its
deletion is allowed; makes a key for whoever encrypts under a name that is not there, as the real
one does for a token with ``create``.

Source: HashiCorp Vault API, "Transit secrets engine".
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.fakes.http_service import Asked, Door, Reply, serving

TOKEN: Final = "hvs.made-up-token"
MOUNT: Final = "/v1/transit/"
_NAME: Final = r"(\w(?:[\w.-]*\w)?)"
_ROUTES: Final = (
    ("LIST", re.compile("keys"), "list"),
    ("POST", re.compile(f"keys/{_NAME}"), "create"),
    ("GET", re.compile(f"keys/{_NAME}"), "read"),
    ("DELETE", re.compile(f"keys/{_NAME}"), "delete"),
    ("POST", re.compile(f"keys/{_NAME}/config"), "config"),
    ("POST", re.compile(f"encrypt/{_NAME}"), "encrypt"),
    ("POST", re.compile(f"decrypt/{_NAME}"), "decrypt"),
)
_MEMBERS: Final = {
    "list": set[str](),
    "read": set[str](),
    "delete": set[str](),
    "create": {"type", "derived", "exportable", "allow_plaintext_backup"},
    "config": {"deletion_allowed"},
    "encrypt": {"plaintext", "associated_data"},
    "decrypt": {"ciphertext", "associated_data"},
}


class RefusedError(Exception):
    def __init__(self, status: int, *errors: str) -> None:
        super().__init__(status)
        self.status, self.errors = status, errors


@dataclass
class Transit:
    """The engine's memory."""

    token: str = TOKEN
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def act(self, asked: Asked) -> Reply:
        try:
            kind, name, said = self._admitted(asked)
            data = getattr(self, f"_{kind}")(name, said)
        except RefusedError as err:
            return Reply(err.status, json.dumps({"errors": list(err.errors)}).encode())
        return Reply(204, b"") if data is None else Reply(200, json.dumps({"data": data}).encode())

    def _admitted(self, asked: Asked) -> tuple[str, str, dict[str, Any]]:
        if asked.headers.get("X-Vault-Token") != self.token:
            raise RefusedError(403, "permission denied")
        if asked.headers.get("X-Vault-Inconsistent") != "forward-active-node":
            raise RefusedError(400, "a standby would answer, which may be behind")
        kind, name = route(asked)
        said = json.loads(asked.body) if asked.body else {}
        if set(said) - _MEMBERS[kind]:
            raise RefusedError(400, "unknown member")
        return kind, name, said

    def _list(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        if not self.keys:
            raise RefusedError(404)
        return {"keys": sorted(self.keys)}

    def _create(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        made = {"type": "aes256-gcm96", "derived": False, "exportable": False}
        made |= {"allow_plaintext_backup": False, **said}
        if made["type"] != "aes256-gcm96":
            raise RefusedError(400, "unknown key type")
        made |= {"deletion_allowed": False, "secret": os.urandom(32)}
        self.keys.setdefault(name, made)  # a key that is there stays as it is, without a word
        return self._read(name, {})

    def _read(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            raise RefusedError(404)
        return {member: value for member, value in self.keys[name].items() if member != "secret"}

    def _config(self, name: str, said: dict[str, Any]) -> None:
        if name not in self.keys:
            raise RefusedError(400, f"no existing key named {name} could be found")
        self.keys[name] |= said

    def _delete(self, name: str, said: dict[str, Any]) -> None:
        if name not in self.keys:
            raise RefusedError(400, "could not delete key; not found")
        if not self.keys[name]["deletion_allowed"]:
            raise RefusedError(400, "deletion is not allowed for this key")
        del self.keys[name]

    def _encrypt(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            self._create(name, {})
        nonce, context = os.urandom(12), base64.b64decode(said.get("associated_data", ""))
        clear = base64.b64decode(said["plaintext"], validate=True)
        sealed = AESGCM(self.keys[name]["secret"]).encrypt(nonce, clear, context)
        return {"ciphertext": "vault:v1:" + base64.b64encode(nonce + sealed).decode()}

    def _decrypt(self, name: str, said: dict[str, Any]) -> dict[str, Any]:
        if name not in self.keys:
            raise RefusedError(400, "encryption key not found")
        found = re.fullmatch(r"vault:v1:([A-Za-z0-9+/=]{40,})", said["ciphertext"])
        if found is None:
            raise RefusedError(400, "invalid ciphertext: no prefix")
        blob, context = base64.b64decode(found[1]), base64.b64decode(said["associated_data"])
        try:
            clear = AESGCM(self.keys[name]["secret"]).decrypt(blob[:12], blob[12:], context)
        except InvalidTag as err:
            raise RefusedError(400, "cipher: message authentication failed") from err
        return {"plaintext": base64.b64encode(clear).decode()}


def route(asked: Asked) -> tuple[str, str]:
    path = asked.path.removeprefix(MOUNT)
    for method, pattern, kind in _ROUTES:
        found = pattern.fullmatch(path)
        if found and method == asked.method and asked.path.startswith(MOUNT):
            return kind, "".join(found.groups())
    raise RefusedError(404, "no handler for route")


def _named(asked: Asked) -> str:
    try:
        return route(asked)[0]
    except RefusedError:
        return "unknown"


@contextmanager
def fake_transit() -> Iterator[tuple[Transit, Door]]:
    """Serve a fresh engine."""
    transit = Transit()
    refusal = Reply(503, json.dumps({"errors": ["Vault is sealed"]}).encode())
    with serving(transit.act, _named, refusal) as door:
        yield transit, door
