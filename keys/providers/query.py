"""What stands behind the question mark of a provider's URI. Pure, but for reading secrets.

``name=value`` pairs, percent-encoded, each name once and none that the provider does not know: a
misspelt option must not silently do nothing. A secret never stands in a URI, only where it is kept:
``file:/path`` or ``env:NAME``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from core.errors import InvalidRequest
from keys.errors import KeyUnavailable

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def options(text: str, known: Collection[str], *, separator: str = "&") -> dict[str, str]:
    """Return the pairs of ``a=b&c=d``.

    Raises:
        InvalidRequest: a name that is not known, one given twice, or a pair without value.
    """
    found: dict[str, str] = {}
    for pair in filter(None, text.split(separator)):
        name, _, value = pair.partition("=")
        if name not in known or name in found or not value:
            raise InvalidRequest(what="keys-uri", option=name[:40] if name in known else "unknown")
        found[name] = unquote(value)
    return found


def checked_name(name: str) -> str:
    """Return what a provider is called in pointers and on certificates.

    Raises:
        InvalidRequest: not 1 to 64 letters, digits, dots, dashes or underscores.
    """
    if not NAME.fullmatch(name):
        raise InvalidRequest(what="keys-uri", option="name")
    return name


def check_address(address: str) -> SplitResult:
    """Return a service's address in its parts.

    Raises:
        InvalidRequest: not https, nor http on a loopback; or with a user or password in it.
    """
    parts = urlsplit(address)
    clear = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if not parts.hostname or "@" in parts.netloc or not (parts.scheme == "https" or clear):
        raise InvalidRequest(what="keys-uri", option="address")
    return parts


def read_secret(source: str) -> str:
    """Return the secret that ``file:/path`` or ``env:NAME`` names, without a last newline.

    Read each time it is needed: it may be replaced while the service runs.

    Raises:
        InvalidRequest: neither of the two forms.
        KeyUnavailable: it is not there, or empty.
    """
    kind, _, where = source.partition(":")
    if kind not in {"file", "env"} or not where:
        raise InvalidRequest(what="keys-uri", option="secret-source")
    try:
        text = Path(where).read_text(encoding="utf-8") if kind == "file" else os.environ[where]
    except (OSError, KeyError, UnicodeDecodeError) as err:
        raise KeyUnavailable(what="key-provider-secret-missing") from err
    secret = text.rstrip("\r\n")
    if not secret:
        raise KeyUnavailable(what="key-provider-secret-missing")
    return secret
