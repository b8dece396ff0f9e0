"""Verifier keys of before a rotation, in a text file beside the signing key: one a line.

``signing.vkeys``, newest first. They are public; the private keys they belong to are gone.
Writing: a temporary file, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from typing import Final

from keys.errors import KeyUnavailable
from keys.secret_file import local_folder, sync_folder

VKEYS_FILE: Final = "signing.vkeys"


def read_old_vkeys(uri: str) -> tuple[str, ...]:
    """Return the verifier keys of before, newest first; none when no key was ever rotated.

    Raises:
        KeyUnavailable: the file cannot be read.
    """
    try:
        text = (local_folder(uri) / VKEYS_FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as err:
        raise KeyUnavailable(file=VKEYS_FILE) from err
    return tuple(text.split())


def write_old_vkeys(uri: str, vkeys: Sequence[str]) -> None:
    """Replace the file, durably.

    Raises:
        KeyUnavailable: it cannot be written.
    """
    folder = local_folder(uri)
    temporary = folder / f".{VKEYS_FILE}.{secrets.token_hex(8)}"
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.writelines(f"{one}\n" for one in vkeys)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / VKEYS_FILE)
        sync_folder(folder)
    except OSError as err:
        raise KeyUnavailable(file=VKEYS_FILE) from err
