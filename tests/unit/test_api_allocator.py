"""glibc takes the settings; another C library is left as it is."""

from __future__ import annotations

import ctypes
import platform

import pytest

from api.allocator import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not on this machine: glibc")
def test_glibc_takes_every_setting() -> None:
    assert keep_freed_memory()


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()
