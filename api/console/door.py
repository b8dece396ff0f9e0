"""Which requests a session's cookie may speak for.

A cookie is sent by the browser, not by the page, so a request that carries one must also show that
it comes from our own page: the browser says so itself (``Sec-Fetch-Site``, ``Origin``), and a
change further needs the token that only our page holds. SameSite=Strict stands before all of this.

Source: Fetch Metadata Request Headers; RFC 6454; OWASP cheat sheet on request forgery.
"""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from api.console.session_seal import request_token
from api.errors import CsrfRefused

SESSION_COOKIE: Final = "__Host-oubliette-session"
LOG_IN_COOKIE: Final = "__Host-oubliette-log-in"
LANGUAGE_COOKIE: Final = "__Host-oubliette-language"
TOKEN_HEADER: Final = "oubliette-csrf"  # noqa: S105 - the name of a header field
READING: Final = frozenset({"GET", "HEAD"})


def session_secret(headers: Headers) -> str:
    """Return the session cookie of a request, "" when there is none, or more than one."""
    found: list[str] = []
    for sent in headers.getlist("cookie"):
        pairs = (pair.partition("=") for pair in sent.split(";"))
        found += [value.strip() for name, _, value in pairs if name.strip() == SESSION_COOKIE]
    return found[0] if len(found) == 1 else ""


def origin_of(public_url: str) -> str:
    """Spell an address's origin as browsers do: small letters, no port that goes without saying."""
    parts = urlsplit(public_url)
    host = (parts.hostname or "").lower()
    host = f"[{host}]" if ":" in host else host
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in {None, default} else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}"


def check_same_origin(headers: Headers, public_url: str, *, change: bool) -> None:
    """Refuse what another site's page sends; for a change the browser must say whose page it is.

    Raises:
        CsrfRefused: the fact ``why`` names the field.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = origin_of(public_url)
    if site is not None and site != "same-origin":
        raise CsrfRefused(why="sec-fetch-site")
    if origin is not None and origin != own:
        raise CsrfRefused(why="origin")
    if change and site is None and origin is None:
        raise CsrfRefused(why="origin")


def from_own_page(headers: Headers, public_url: str, *, secret: str, change: bool) -> None:
    """Refuse what our own page has not sent.

    Raises:
        CsrfRefused: the fact ``why`` names the field.
    """
    check_same_origin(headers, public_url, change=change)
    if not change:
        return
    shown = headers.get(TOKEN_HEADER, "")
    if not hmac.compare_digest(shown.encode(), request_token(secret).encode()):
        raise CsrfRefused(why="token")
