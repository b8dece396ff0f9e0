"""Pieces of OpenAPI that routes share: problem answers by code.

A route names the codes it may answer with; their statuses and titles come from where they are
defined, so that the document cannot drift from the program.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import api.errors
import core.errors
import keys.errors
import retention.errors
import vault.errors
from api.problems import MEDIA_TYPE, STATUS, TYPE_PREFIX
from core.errors import OublietteError

ALWAYS: Final = ("invalid-request", "headers-too-large", "internal-failure", "not-ready")
WITH_CALLER: Final = (
    "unauthenticated",
    "issuer-unavailable",
    "role-required",
    "account-suspended",
    "csrf-refused",
)
WITH_BODY: Final = ("body-too-slow", "body-too-large", "unsupported-media-type")
# what defines the errors must be imported before ``leaves`` looks for them
_FAMILIES: Final = (core.errors, keys.errors, vault.errors, retention.errors, api.errors)


def leaves(root: type[OublietteError] = OublietteError) -> Iterator[type[OublietteError]]:
    """Yield every error class that has a code."""
    for one in root.__subclasses__():
        if one.code:
            yield one
        yield from leaves(one)


def titles() -> dict[str, str]:
    """Return the title of every code, in alphabetical order."""
    return {leaf.code: leaf.title for leaf in sorted(leaves(), key=lambda one: one.code)}


def problems(*codes: str, public: bool = False, body: bool = False) -> dict[int | str, Any]:
    """Return the ``responses`` of a route that may answer with these codes.

    Args:
        *codes: beyond those that any route of its kind has.
        public: the route asks for no credentials.
        body: the route reads a JSON body.
    """
    found = {*codes, *ALWAYS, *(() if public else WITH_CALLER), *(WITH_BODY if body else ())}
    known = titles()
    by_status: dict[int, list[str]] = {}
    for code in sorted(found):
        by_status.setdefault(STATUS[code], []).append(code)
    return {
        status: _response(status, {code: known[code] for code in listed})
        for status, listed in sorted(by_status.items())
    }


def _response(status: int, listed: dict[str, str]) -> dict[str, Any]:
    examples = {
        code: {
            "value": {"type": TYPE_PREFIX + code, "title": title, "status": status, "code": code}
        }
        for code, title in listed.items()
    }
    return {
        "description": ", ".join(f"`{code}`" for code in listed),
        "content": {
            MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
        },
    }
