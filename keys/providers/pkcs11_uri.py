"""``pkcs11:`` URIs: which tokens hold the epoch keys, and where their PINs are. Pure.

    pkcs11:token=vault?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin
    pkcs11:token=a?...,token=b;serial=0123?...      two nodes: each has a key of its own

Path attributes ``token`` and ``serial`` choose a token, query attributes ``module-path`` and
``pin-source`` (``file:/path`` or ``env:NAME``) say how to reach it; ``name``, on the first node, is
what the provider is called. ``pin-value`` is refused: a PIN does not stand in a URI.

Source: RFC 7512, sections 2.3 and 2.4; the comma between nodes is ours.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from core.errors import InvalidRequest
from keys.providers.query import checked_name, options

_PATH: Final = ("token", "serial")
_QUERY: Final = ("module-path", "pin-source", "name")
_MARK_BYTES: Final = 8


@dataclass(frozen=True)
class Node:
    """One token.

    Attributes:
        token: its label. serial: its serial number, or "" for any.
        module_path: the maker's library. pin_source: where the PIN is.
        name: what the provider is called, or "".
    """

    token: str
    serial: str
    module_path: str
    pin_source: str
    name: str

    @property
    def mark(self) -> bytes:
        """Return 8 bytes that tell which node wrapped something."""
        return hashlib.sha256(f"{self.token}\0{self.serial}".encode()).digest()[:_MARK_BYTES]


def read_nodes(rest: str) -> tuple[Node, ...]:
    """Return the nodes of a URI, given without its scheme.

    Raises:
        InvalidRequest: an attribute is unknown, missing or given twice, or a token stands there
            twice.
    """
    nodes = tuple(_node(part.removeprefix("pkcs11:")) for part in rest.split(","))
    if len({node.mark for node in nodes}) != len(nodes):
        raise InvalidRequest(what="keys-uri", option="token")
    checked_name(name_of(nodes))
    return nodes


def name_of(nodes: tuple[Node, ...]) -> str:
    """Return what the provider is called: its given name, or the first token's label."""
    return nodes[0].name or nodes[0].token


def _node(text: str) -> Node:
    path, _, query = text.partition("?")
    where, how = options(path, _PATH, separator=";"), options(query, _QUERY)
    for needed, given in (("token", where), ("module-path", how), ("pin-source", how)):
        if needed not in given:
            raise InvalidRequest(what="keys-uri", option=needed)
    return Node(
        token=where["token"],
        serial=where.get("serial", ""),
        module_path=how["module-path"],
        pin_source=how["pin-source"],
        name=how.get("name", ""),
    )
