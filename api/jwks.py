"""The issuer's public keys: fetched with suspicion, cached, and kept through an outage.

A key set decides who may listen, so it is fetched only over https (http on a loopback), only from
the issuer's own host, without redirects, at most 64 KiB within 3 s in all. Keys are looked up for
10 minutes; a ``kid`` nobody has seen refetches at most once a minute (rotation); when the issuer is
down the last good set serves for 24 h.

Does not protect against: an issuer that publishes a key it does not control.

Source: OpenID Connect Discovery 1.0 section 4.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from api.errors import IssuerUnavailable, Unauthenticated
from api.jwk import DEPTH_MAX, Jwk, parse_jwks
from api.ports import DocumentFetcher
from api.settings_text import is_loopback
from api.strict_json import parse_object
from core.ports import Clock

CACHE_S: Final = 600.0
UNKNOWN_KID_S: Final = 60.0
LAST_GOOD_S: Final = 86_400.0
RETRY_S: Final = 15.0
WAITING_MAX: Final = 16


@dataclass(frozen=True)
class FixedKeys:
    """The keys of the embedded issuer, which need no fetching."""

    keys: Mapping[str, tuple[Jwk, ...]]

    def find(self, kid: str) -> Jwk:
        """Return the one key of this ``kid``.

        Raises:
            Unauthenticated: there is none, or more than one.
        """
        return _one(self.keys, kid)


@dataclass
class IssuerKeys:
    """The keys of an OpenID Connect issuer, fetched when they are needed.

    Thread-safe; while one thread fetches, others go on with the set they have.
    """

    issuer: str
    fetcher: DocumentFetcher
    clock: Clock
    _keys: Mapping[str, tuple[Jwk, ...]] = field(default_factory=dict)
    _fetched_s: float | None = None
    _tried_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: threading.Semaphore = field(
        default_factory=lambda: threading.Semaphore(WAITING_MAX), repr=False
    )

    def find(self, kid: str) -> Jwk:
        """Return the one key of this ``kid``, fetching the set when that is due.

        Raises:
            Unauthenticated: the issuer has no such key, or two of them.
            IssuerUnavailable: there is no set younger than 24 h and none can be fetched.
        """
        if self._due(kid):
            self._refresh(kid, wait=kid not in self._keys)
        if self._age_s() > LAST_GOOD_S:
            raise IssuerUnavailable
        return _one(self._keys, kid)

    def _age_s(self) -> float:
        return self._since(self._fetched_s)

    def _since(self, instant_s: float | None) -> float:
        return float("inf") if instant_s is None else self.clock.boottime_s() - instant_s

    def _due(self, kid: str) -> bool:
        if self._age_s() > CACHE_S:
            return self._since(self._tried_s) >= RETRY_S
        return kid not in self._keys and self._since(self._tried_s) >= UNKNOWN_KID_S

    def _refresh(self, kid: str, *, wait: bool) -> None:
        if not self._lock.acquire(blocking=False):
            if not wait:
                return  # another thread is at it, and the key at hand is still good
            self._await_turn()
        try:
            if self._due(kid):
                self._fetch()
        finally:
            self._lock.release()

    def _await_turn(self) -> None:
        """Wait for the thread that fetches; of those that do, only a few.

        Anybody can show a ``kid`` that nobody knows, and a slow issuer would hold every thread.
        """
        if not self._waiting.acquire(blocking=False):
            raise IssuerUnavailable
        try:
            self._lock.acquire()
        finally:
            self._waiting.release()

    def _fetch(self) -> None:
        """Fetch the set; a failure keeps the old one and is not tried again for a while."""
        try:
            found = parse_jwks(self.fetcher.get(self._jwks_uri()))
        except (OSError, ValueError):
            found = {}
        now_s = self.clock.boottime_s()
        if found:
            self._keys, self._fetched_s = found, now_s
        self._tried_s = now_s  # last: until then other threads know that a fetch is due

    def _jwks_uri(self) -> str:
        """Ask the issuer where its keys are, and hold it to its own host."""
        where = self.issuer.rstrip("/") + "/.well-known/openid-configuration"
        document = parse_object(self.fetcher.get(where), depth_max=DEPTH_MAX)
        found = document.get("jwks_uri")
        if document.get("issuer") != self.issuer or not isinstance(found, str):
            raise ValueError("not the issuer's own document")
        ours, theirs = urlsplit(self.issuer), urlsplit(found)
        secure = theirs.scheme == "https" or is_loopback(theirs.hostname or "")
        if (ours.scheme, ours.netloc) != (theirs.scheme, theirs.netloc) or not secure:
            raise ValueError("keys on another host")
        return found


def _one(keys: Mapping[str, tuple[Jwk, ...]], kid: str) -> Jwk:
    found = keys.get(kid, ())
    if len(found) != 1:
        raise Unauthenticated(reason="key-ambiguous" if found else "key-unknown")
    return found[0]
