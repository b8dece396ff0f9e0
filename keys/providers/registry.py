"""Key providers by URI, and the set of them that a process was given.

    local:/srv/keyring/epochs,/mnt/second/epochs    folders; one alone gets a second, named "-2",
                                                    beside it

A further provider is a module beside this one and a line in ``_OPENERS``; its libraries are
imported when a URI asks for them. No secret stands in a URI.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.errors import InvalidRequest
from keys.errors import KeyUnavailable
from keys.ports import KeyProvider
from keys.providers.local import LocalProvider

_SECOND: Final = "-2"


def open_provider(uri: str) -> KeyProvider:
    """Open the provider that a URI names.

    Raises:
        InvalidRequest: no provider has this scheme, or the rest is not for it.
        KeyUnavailable: it does not answer.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in _OPENERS or not rest:
        raise InvalidRequest(what="keys-uri")
    return _OPENERS[scheme](rest)


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

    def __iter__(self) -> Iterator[KeyProvider]:
        return iter(self.providers)


def _open_local(rest: str) -> KeyProvider:
    folders = [Path(part) for part in rest.split(",")]
    if not all(folder.is_absolute() for folder in folders):
        raise InvalidRequest(what="keys-uri")
    if len(folders) == 1:
        folders.append(folders[0].with_name(folders[0].name + _SECOND))
    return LocalProvider(tuple(folders))


_OPENERS: Final[Mapping[str, Callable[[str], KeyProvider]]] = {"local": _open_local}
