"""Which program this is."""

from __future__ import annotations

from importlib import metadata
from typing import Final

_OF_A_CHECKOUT: Final = "0.1.0"


def program_version() -> str:
    """Return the installed version, or the one of a checkout."""
    try:
        return metadata.version("oubliette")
    except metadata.PackageNotFoundError:
        return _OF_A_CHECKOUT
