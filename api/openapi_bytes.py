"""OpenAPI path items of the routes that move bytes and therefore stand beside FastAPI."""

from __future__ import annotations

from typing import Any, Final

BYTE_PATHS: Final[dict[str, dict[str, Any]]] = {}
