"""How the text of one setting is read; each reader raises ``ValueError`` that says what it wants.

The messages never repeat the value: it may be a credential put into the wrong variable.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

SUPPORTED_ALGORITHMS: Final = ("RS256", "ES256", "ES384")
_UNITS: Final = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SIZE: Final = re.compile(r"([0-9]{1,15}) ?([A-Za-z]{0,3})")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_POLICY_MAX: Final = 200
_SECRET_PARAMETER: Final = re.compile(r"pass|secret|token|key|pin", re.IGNORECASE)


@dataclass(frozen=True)
class Rule:
    """One setting.

    Attributes:
        name: without ``OUBLIETTE_``. field: of ``Settings``.
        read: text to value. default: the text that stands for it when it is absent.
    """

    name: str
    field: str
    read: Callable[[str], object]
    default: str


def text(value: str) -> str:
    """Take any text without control characters."""
    if any(ord(character) < 32 or ord(character) == 127 for character in value):  # noqa: PLR2004
        raise ValueError("no control characters")
    return value


def words(value: str) -> tuple[str, ...]:
    """Take words apart at white space or commas."""
    return tuple(one for one in re.split(r"[\s,]+", text(value)) if one)


def uri(value: str) -> str:
    """Take something that begins with a scheme."""
    if not _SCHEME.match(text(value)) or " " in value:
        raise ValueError("a URI with a scheme")
    return value


def uris(value: str) -> tuple[str, ...]:
    """Take one or more URIs apart at white space."""
    found = tuple(uri(one) for one in value.split())
    if not found:
        raise ValueError("at least one URI")
    return found


def words_of_a_policy(value: str) -> str:
    """Take one line of plain words, at most 200 characters; they are printed on certificates."""
    if len(value) > _POLICY_MAX or not value.isprintable():
        raise ValueError(f"one printable line of at most {_POLICY_MAX} characters")
    return value


def choice(*allowed: str) -> Callable[[str], str]:
    """Take one of a few words."""

    def read(value: str) -> str:
        if value not in allowed:
            raise ValueError("one of " + ", ".join(allowed))
        return value

    return read


def whole(least: int, most: int) -> Callable[[str], int]:
    """Take a whole number within bounds, both included."""

    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,15}", value) or not least <= int(value) <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return int(value)

    return read


def size_bytes(least: int, most: int) -> Callable[[str], int]:
    """Take a number of bytes, or one with KiB, MiB, GiB or TiB."""

    def read(value: str) -> int:
        found = _SIZE.fullmatch(value)
        if not found or found[2].upper() not in _UNITS:
            raise ValueError("bytes, or a number with KiB, MiB or GiB")
        count = int(found[1]) * _UNITS[found[2].upper()]
        if not least <= count <= most:
            raise ValueError(f"from {least} to {most} bytes")
        return count

    return read


def share(value: str) -> float:
    """Take a share from 0 to 1."""
    if not re.fullmatch(r"[01](?:\.[0-9]{1,6})?", value) or float(value) > 1:
        raise ValueError("a share from 0 to 1")
    return float(value)


def flag(value: str) -> bool:
    """Take true or false."""
    if value not in {"true", "false"}:
        raise ValueError("true or false")
    return value == "true"


def country(value: str) -> str:
    """Take an ISO 3166-1 alpha-2 code."""
    if not re.fullmatch(r"[A-Z]{2}", value):
        raise ValueError("a country code of two capital letters")
    return value


def absolute_folder(value: str) -> Path:
    """Take a folder; a relative one counts from where the program was started."""
    if any(character in text(value) for character in " ,?#%"):
        raise ValueError("a path without space, comma, ?, # or %")
    return Path(value).absolute()


def algorithms(value: str) -> tuple[str, ...]:
    """Take signature algorithms out of the supported three."""
    found = words(value)
    if not found or not set(found) <= set(SUPPORTED_ALGORITHMS):
        raise ValueError("some of " + ", ".join(SUPPORTED_ALGORITHMS))
    return found


def scopes(value: str) -> str:
    """Take the scopes of a log-in, ``openid`` among them."""
    found = words(value)
    if "openid" not in found or len(set(found)) != len(found):
        raise ValueError("different words, one of them openid")
    return " ".join(found)


def base_url(value: str) -> str:
    """Take scheme, host and port of an http(s) address; nothing behind them."""
    parts = urlsplit(text(value))
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("an address without path or query")
    return _http(value).rstrip("/")


def public_base_url(embedded: str) -> Callable[[str], str]:
    """Take an issuer's address: https, or http on a loopback; or the embedded issuer's name."""

    def read(value: str) -> str:
        if value == embedded:
            return value
        parts = urlsplit(_http(value))
        if parts.query or parts.fragment:
            raise ValueError("an address without query")
        if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValueError("an https address")
        return value

    return read


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine's own loopback."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def without_credentials(value: str) -> str:
    """Leave user, password and secret-looking parameters out of every URI in a text."""
    return " ".join(_redacted(one) for one in value.split(" "))


def _http(value: str) -> str:
    parts = urlsplit(text(value))
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc:
        raise ValueError("an http or https address without user and password")
    return value


def _redacted(value: str) -> str:
    if "://" not in value:
        return value
    parts = urlsplit(value)
    host = parts.netloc.rpartition("@")[2]
    query = urlencode(
        [
            (name, "..." if _SECRET_PARAMETER.search(name) else shown)
            for name, shown in parse_qsl(parts.query, keep_blank_values=True)
        ]
    )
    shown = "...@" + host if "@" in parts.netloc else host
    return f"{parts.scheme}://{shown}{parts.path}" + (f"?{query}" if query else "")
