"""A gigabyte is deposited through the real command without the server growing by 64 MiB."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.deposit import vault
from bench.memory import growth_mib, memory_peak

MOST_MIB = 64


@pytest.mark.prove
def test_a_gigabyte_passes_through_in_little_memory(tmp_path: Path) -> None:
    with vault(tmp_path / "data") as target:
        assert growth_mib(target) <= MOST_MIB
    objects = [path for path in (tmp_path / "data" / "vault").rglob("*") if path.is_file()]
    assert max(path.stat().st_size for path in objects) > 1 << 30


def test_the_same_measure_sees_what_is_held() -> None:
    with memory_peak(os.getpid()) as peak:
        held = bytearray(os.urandom(1 << 20) * (2 * MOST_MIB))
    assert len(held) == 2 * MOST_MIB << 20
    assert peak[0] > MOST_MIB
