"""Addresses of next pages: always from the public address, never from the request's ``Host``."""

from __future__ import annotations

from urllib.parse import urlencode

from fastapi import Request


def next_url(request: Request, path: str, cursor: str | None) -> str | None:
    """Return the address of the page after this one, or None on the last.

    Args:
        request: its query parameters, but for the cursor, go into the address again.
        path: of the list, with a leading slash.
        cursor: the token of the next page.
    """
    if cursor is None:
        return None
    asked = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    public: str = request.app.state.service.settings.public_url
    return f"{public}{path}?{urlencode([*asked, ('cursor', cursor)])}"
