"""The search of a process's memory finds a planted key in every spelling, and nothing else."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.memory import Secrets

SPELT: Final[dict[str, Callable[[bytes], bytes]]] = {
    "raw": bytes,
    "hex": lambda key: key.hex().encode(),
    "HEX": lambda key: key.hex().upper().encode(),
    "base64": base64.b64encode,
    "base64 behind one byte": lambda key: base64.b64encode(b"x" + key),
    "base64 behind two bytes": lambda key: base64.b64encode(b"xy" + key),
    "base64url": base64.urlsafe_b64encode,
    "HMAC inner": lambda key: bytes(one ^ 0x36 for one in key),
    "HMAC outer": lambda key: bytes(one ^ 0x5C for one in key),
}
HOLDS = "import sys; kept = sys.stdin.buffer.read(int(sys.argv[1])); print(len(kept), flush=True); "
HOLDS += "sys.stdin.buffer.read()"


@contextmanager
def holding(planted: bytes) -> Iterator[int]:
    """Run a process that holds these bytes; yields its id."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(len(planted))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(planted)
        process.stdin.flush()
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.control
@pytest.mark.parametrize("spelling", SPELT)
def test_a_planted_key_is_found_in_memory(spelling: str) -> None:
    key, other = os.urandom(32), os.urandom(32)
    secrets = Secrets({"planted": key, "absent": other})
    with holding(b"noise " + SPELT[spelling](key) + b" noise") as process_id:
        found = secrets.in_memory_of(process_id)
    assert found
    assert all(one.startswith("planted ") for one in found)


@pytest.mark.control
@pytest.mark.parametrize("at", [0, 1, (1 << 24) - 16, (1 << 24) + 5])
def test_a_planted_key_is_found_in_a_file_wherever_it_stands(at: int, tmp_path: Path) -> None:
    key = os.urandom(32)
    (tmp_path / "file").write_bytes(bytes(at) + key + bytes(64))
    assert Secrets({"planted": key}).in_files([tmp_path]) == ["planted raw in file"]


def test_what_is_not_there_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(1 << 16))
    with holding(os.urandom(4_096)) as process_id:
        secrets = Secrets({"absent": os.urandom(32)})
        assert secrets.in_memory_of(process_id) == []
    assert secrets.in_files([tmp_path]) == []
