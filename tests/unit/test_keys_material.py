from __future__ import annotations

import copy
import ctypes
import os
import pickle
import sys

import pytest

from core.errors import IntegrityFailure
from keys.errors import LeaseLost
from keys.material import Dek, scrub_freed, wipe, wipe_bytes

PLANTED = os.urandom(8)


def test_dek_gives_its_bytes_out_only_by_reveal() -> None:
    secret = os.urandom(32)
    dek = Dek(secret)
    assert dek.reveal() == secret
    assert dek.reveal() is not dek.reveal()
    shown = repr(dek) + str(dek) + format(dek)
    assert secret.hex() not in shown
    assert repr(secret) not in shown
    assert shown == "Dek(redacted)" * 3


def test_closed_dek_reveals_nothing_and_holds_zeros() -> None:
    with Dek(os.urandom(32)) as dek:
        held = dek._secret
    assert held == bytes(32)
    with pytest.raises(LeaseLost):
        dek.reveal()
    dek.close()


def test_closing_a_dek_leaves_what_was_revealed_before() -> None:
    secret = os.urandom(32)
    dek = Dek(secret)
    revealed = dek.reveal()
    dek.close()
    assert revealed == secret


@pytest.mark.parametrize("length", [0, 1, 16, 31, 33, 64])
def test_dek_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(IntegrityFailure):
        Dek(bytes(length))


@pytest.mark.parametrize("leave", [copy.copy, copy.deepcopy, pickle.dumps])
def test_dek_is_not_copied_or_pickled(leave: object) -> None:
    assert callable(leave)
    with pytest.raises(TypeError, match="neither pickled nor copied"):
        leave(Dek(bytes(32)))


def test_dek_is_not_compared_by_value() -> None:
    assert Dek(bytes(32)) != Dek(bytes(32))


@pytest.mark.parametrize("length", [0, 1, 32, 39, 1000])
def test_wipe_zeroes_a_buffer_in_place(length: int) -> None:
    buffer = bytearray(os.urandom(length))
    with memoryview(buffer) as view:
        wipe(buffer)
        assert view == bytes(length)


@pytest.mark.parametrize("length", [2, 31, 32, 33, 4096])
def test_wipe_bytes_zeroes_exactly_its_own_bytes(length: int) -> None:
    neighbours = [os.urandom(length) for _ in range(100)]
    copies = [bytearray(one) for one in neighbours]
    wipe_bytes(neighbours[50])
    assert neighbours[50] == bytes(length)
    del neighbours[50], copies[50]
    assert neighbours == copies


@pytest.mark.parametrize("shared", [b"", b"\x07"])
def test_wipe_bytes_leaves_the_objects_that_python_shares(shared: bytes) -> None:
    before = bytearray(shared)
    wipe_bytes(shared)
    assert shared == before


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
@pytest.mark.parametrize("length", [48, 1_000, 1_032])
def test_scrubbing_zeroes_the_block_that_was_freed_last(length: int) -> None:
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.restype, libc.free.argtypes = None, [ctypes.c_void_p]
    block = libc.malloc(length)
    ctypes.memmove(block, PLANTED * (length // len(PLANTED)), length)
    libc.free(block)
    scrub_freed(length)
    # glibc itself keeps a pointer and a random key at its head: any one byte may be among those
    assert PLANTED not in ctypes.string_at(block, length)
