"""The OpenAPI document: FastAPI's JSON routes, our byte routes, one shape of error.

``/openapi.json`` and ``/docs`` show it outside production mode.
The page is plain HTML made here: no script, nothing from another host.
"""

from __future__ import annotations

import html
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse

from api.openapi_bytes import BYTE_PATHS
from api.schemas import Problem

VERSION: Final = "1"
DESCRIPTION: Final = (
    "A call recording vault that can forget, and can prove it. "
    "Every refusal is an RFC 9457 problem document; every instant is RFC 3339 in UTC."
)
_METHODS: Final = ("get", "head", "post", "put", "delete")


def install_openapi(api: FastAPI) -> None:
    """Give an application its document and, outside production mode, the pages that show it."""
    api.openapi = lambda: document(api)  # type: ignore[method-assign]
    if api.state.service.settings.production:
        return

    def openapi_json(request: Request) -> JSONResponse:
        return JSONResponse(document(request.app))

    def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page(document(request.app)))

    api.add_route("/openapi.json", openapi_json, include_in_schema=False)
    api.add_route("/docs", docs, include_in_schema=False)


def document(api: FastAPI) -> dict[str, Any]:
    """Return the whole document; made once for each application."""
    if api.openapi_schema:
        return api.openapi_schema
    made = get_openapi(
        title="Oubliette", version=VERSION, description=DESCRIPTION, routes=api.routes
    )
    paths: dict[str, Any] = made["paths"]
    for path, operations in BYTE_PATHS.items():
        paths.setdefault(path, {}).update(operations)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    made["components"]["securitySchemes"] = _SECURITY
    for operation in _operations(paths):
        _tidy(operation)
    api.openapi_schema = made
    return made


_SECURITY: Final = {
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    "depositKey": {"type": "http", "scheme": "basic"},
}


def _operations(paths: dict[str, Any]) -> list[dict[str, Any]]:
    return [item[method] for item in paths.values() for method in _METHODS if method in item]


def _tidy(operation: dict[str, Any]) -> None:
    """Drop the framework's own 422 and say which operations want a caller."""
    answers = operation["responses"]
    refused = answers.get("422", {}).get("content", {})
    if "application/problem+json" not in refused:
        answers.pop("422", None)
    if "401" in answers:
        operation.setdefault("security", [{"token": []}])


def page(made: dict[str, Any]) -> str:
    """Return the document as one HTML page of plain tables."""
    rows = [
        f"<tr><td><code>{method.upper()}</code></td><td><code>{html.escape(path)}</code></td>"
        f"<td>{html.escape(item[method].get('summary', ''))}</td>"
        f"<td>{html.escape(', '.join(item[method]['responses']))}</td></tr>"
        for path, item in sorted(made["paths"].items())
        for method in _METHODS
        if method in item
    ]
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Oubliette API</title>'
        f"<h1>Oubliette API</h1><p>{html.escape(DESCRIPTION)}</p>"
        '<p>The machine-readable document is <a href="/openapi.json">/openapi.json</a>.</p>'
        "<table><tr><th>Method</th><th>Path</th><th>What</th><th>Answers</th></tr>"
        f"{''.join(rows)}</table></html>"
    )
