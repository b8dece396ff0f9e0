"""The console's pages: a few templates of our own, every inserted text escaped.

No script or style stands in a page, none comes from another host, and the content policy says so to
the browser: scripts only from here, requests and sound only from and to here, no frames, no forms.

Source: CSP Level 3; Trusted Types (no text becomes markup by accident).
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import Final

from starlette.responses import HTMLResponse, Response

from api.console.words import SPOKEN, WORDS, Language
from vault.access import PURPOSES

FOLDER: Final = Path(__file__).parent / "assets"
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "media-src 'self'; img-src 'self'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
ASSETS: Final[Mapping[str, str]] = {
    "console.css": "text/css; charset=utf-8",
    "console.js": "text/javascript; charset=utf-8",
    "enter.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_HEADERS: Final = {"Content-Security-Policy": POLICY, "Vary": "Cookie, Accept-Language"}


def page(
    name: str, language: Language, *, status: int = HTTPStatus.OK, **inserted: str
) -> HTMLResponse:
    """Return a page.

    Args:
        name: of the template, without ``.html``.
        language: of its words.
        status: of the answer.
        **inserted: further texts; each is escaped.
    """
    words = {key: html.escape(text) for key, text in WORDS[language].items()}
    given = {key: html.escape(text) for key, text in inserted.items()}
    body = _template(name).substitute(words, **given, language=language, **_made(language))
    shown = _template("frame").substitute(words, language=language, body=body)
    return HTMLResponse(shown, status_code=status, headers=_HEADERS)


def moving_on(language: Language, where: str) -> HTMLResponse:
    """Return a page that goes on to an address of ours by itself.

    A redirect would not do: the browser came here from the provider's site, and cookies with
    SameSite=Strict are sent only on the next step that begins here.
    """
    answer = page("moving_on", language, where=where)
    answer.headers["Refresh"] = f"0; url={where}"
    return answer


def asset(name: str) -> Response:
    """Return one of the fixed files."""
    return Response(
        _bytes(name), media_type=ASSETS[name], headers={"Cache-Control": "private, max-age=300"}
    )


def _made(language: Language) -> dict[str, str]:
    """Return the parts that are lists."""
    words = WORDS[language]
    options = (f'<option value="{one}">{html.escape(words[one])}</option>' for one in PURPOSES)
    spoken = (f'<li data-key="{one}">{html.escape(words[one])}</li>' for one in SPOKEN)
    return {"purposes": "".join(options), "spoken": "".join(spoken)}


@lru_cache(maxsize=16)
def _template(name: str) -> Template:
    return Template((FOLDER / f"{name}.html").read_text(encoding="utf-8"))


@lru_cache(maxsize=16)
def _bytes(name: str) -> bytes:
    return (FOLDER / name).read_bytes()
