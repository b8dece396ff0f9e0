"""Key providers by URI, and the set of them that a process was given.

    local:/srv/keyring/epochs,/mnt/second/epochs    folders; one alone gets a second, named "-2",
                                                    beside it
    pkcs11:token=vault?module-path=...&pin-source=  tokens of HSMs (``pkcs11_uri``)
    aws-kms:eu-west-3?window-days=7                 AWS KMS (``kms``)
    transit:https://vault.example:8200/transit?...  Vault or OpenBao (``transit``)

A further provider is a module beside this one and a line in ``_OPENERS``; its libraries are
imported when a URI asks for them. No secret stands in a URI. Every provider is given a deadline
(``deadline``): one that hangs is one that does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import InvalidRequest
from keys.errors import KeyUnavailable
from keys.ports import KeyProvider
from keys.providers.deadline import PAUSE_S, TIMEOUT_S, Deadline, Patience
from keys.providers.local import LocalProvider
from keys.providers.pkcs11_uri import read_nodes
from keys.providers.transit import open_transit

_SECOND: Final = "-2"


def open_provider(uri: str, *, timeout_s: float = TIMEOUT_S) -> Deadline:
    """Open the provider that a URI names; what lies behind a network is asked at its first use.

    Args:
        uri: its scheme chooses the provider.
        timeout_s: how long one call to it may take.

    Raises:
        InvalidRequest: no provider has this scheme, or the rest is not for it.
        KeyUnavailable: its folders cannot be made, or its library is not installed.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in _OPENERS or not rest:
        raise InvalidRequest(what="keys-uri")
    return Deadline(_OPENERS[scheme](rest, timeout_s), Patience(timeout_s, PAUSE_S))


@dataclass(frozen=True)
class Providers:
    """The providers of this process; the first one makes the keys of new controllers.

    A controller's keys are searched in all of them: while it moves from one to another, or when a
    backup brings an older pointer back.
    """

    providers: Sequence[KeyProvider]

    def __post_init__(self) -> None:
        """Refuse an empty set and two providers under one URI."""
        uris = [provider.uri for provider in self.providers]
        if not uris or len(set(uris)) != len(uris):
            raise InvalidRequest(what="keys-uri")

    @classmethod
    def open(cls, uris: Sequence[str]) -> Providers:
        """Open each provider; raises like ``open_provider``."""
        return cls(tuple(open_provider(uri) for uri in uris))

    @property
    def default(self) -> KeyProvider:
        """Return the provider for new controllers."""
        return self.providers[0]

    def at(self, uri: str) -> KeyProvider:
        """Return the provider that a pointer names.

        Raises:
            KeyUnavailable: it is not among the settings.
        """
        for provider in self.providers:
            if provider.uri == uri:
                return provider
        raise KeyUnavailable(what="key-provider", provider=uri)

    def down(self) -> tuple[str, ...]:
        """Return the URIs of the providers whose newest call was not answered."""
        timed = [one for one in self.providers if isinstance(one, Deadline)]
        return tuple(one.uri for one in timed if not one.is_up)

    def __iter__(self) -> Iterator[KeyProvider]:
        return iter(self.providers)


def _open_local(rest: str, timeout_s: float) -> KeyProvider:
    del timeout_s  # files have no time-out of their own
    folders = [Path(part) for part in rest.split(",")]
    if not all(folder.is_absolute() for folder in folders):
        raise InvalidRequest(what="keys-uri")
    if len(folders) == 1:
        folders.append(folders[0].with_name(folders[0].name + _SECOND))
    return LocalProvider(tuple(folders))


def _open_pkcs11(rest: str, timeout_s: float) -> KeyProvider:
    del timeout_s  # a token's library knows none
    nodes = read_nodes(rest)
    try:
        from keys.providers.hsm import HsmProvider  # noqa: PLC0415 - wants the extra "pkcs11"
        from keys.providers.pkcs11 import Token  # noqa: PLC0415
    except ImportError as err:
        raise KeyUnavailable(what="extra-pkcs11-missing") from err
    return HsmProvider(tuple(Token(node) for node in nodes))


def _open_aws_kms(rest: str, timeout_s: float) -> KeyProvider:
    from keys.providers.kms import open_kms  # noqa: PLC0415 - boto3 is slow to import

    return open_kms(rest, timeout_s)


_OPENERS: Final[Mapping[str, Callable[[str, float], KeyProvider]]] = {
    "local": _open_local,
    "pkcs11": _open_pkcs11,
    "aws-kms": _open_aws_kms,
    "transit": open_transit,
}
