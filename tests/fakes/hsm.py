"""Tokens of SoftHSM in the folder of the ``softhsm`` fixture, and the URIs that name them."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pkcs11

PIN: Final = "hsm-pin-0417"


def make_token(environment: Mapping[str, str]) -> str:
    """Make an empty token and return its label; this process sees the folder from now on."""
    os.environ["SOFTHSM2_CONF"] = environment["SOFTHSM2_CONF"]
    label = f"t-{uuid.uuid4().hex[:12]}"
    words = ["softhsm2-util", "--init-token", "--free", "--label", label]
    subprocess.run(
        [*words, "--pin", PIN, "--so-pin", "12345678"], check=True, capture_output=True, timeout=60
    )
    pkcs11.lib(environment["PKCS11_MODULE"]).reinitialize()  # else it sees older tokens only
    return label


def drop_token(label: str) -> None:
    """Delete a token, as somebody might whose HSM burnt down."""
    subprocess.run(
        ["softhsm2-util", "--delete-token", "--token", label],
        check=True,
        capture_output=True,
        timeout=60,
    )


def pin_file(folder: Path, pin: str = PIN) -> Path:
    """Write a PIN where a URI can point to it."""
    file = folder / "hsm-pin"
    file.write_text(pin + "\n")
    return file


def hsm_uri(environment: Mapping[str, str], labels: list[str], pin: Path) -> str:
    """Return the URI of a provider over tokens."""
    how = f"module-path={environment['PKCS11_MODULE']}&pin-source=file:{pin}"
    return "pkcs11:" + ",".join(f"token={label}?{how}" for label in labels)
