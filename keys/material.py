"""Buffers that hold key material, and how they end.

Key bytes live in ``bytearray`` objects that their owner zeroes. Two kinds of ``bytes`` cannot be
avoided: what ``hmac.digest`` returns, and what ``Dek.reveal`` hands to a library that takes nothing
else. The first are zeroed in place with ``wipe_bytes`` before they are dropped.

Does not protect against copies that a library or the kernel makes (cipher contexts, swap, core
dumps), nor against a caller who keeps what ``reveal`` returned. Zeroing ``bytes`` relies on the
object layout of CPython; on any other interpreter it does nothing.
"""

from __future__ import annotations

import ctypes
import sys
from types import TracebackType
from typing import Final, NoReturn, Self

from core.errors import IntegrityFailure
from keys.errors import LeaseLost

DEK_BYTES: Final = 32
_BYTES_HEAD: Final = bytes.__basicsize__ - 1
_IS_CPYTHON: Final = sys.implementation.name == "cpython"
_IS_LINUX: Final = sys.platform == "linux"
_KEPT_BLOCKS: Final = 7
_LIBC: Final = ctypes.CDLL(None)
_MALLOC: Final = _LIBC.malloc
_MALLOC.restype, _MALLOC.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
_FREE: Final = _LIBC.free
_FREE.restype, _FREE.argtypes = None, [ctypes.c_void_p]
_SHARED_BYTES: Final = 1  # CPython keeps one shared object for each bytes of length 0 and 1


def wipe(secret: bytearray | memoryview) -> None:
    """Overwrite a buffer with zeros; it keeps its length."""
    secret[:] = bytes(len(secret))


def wipe_bytes(secret: bytes) -> None:
    """Overwrite an immutable ``bytes`` in place: only for one that nobody else refers to.

    Args:
        secret: made at run time (the result of a digest, a decryption, a generator), never a
            literal, a dict key or something handed out: every other holder would see zeros.
    """
    if _IS_CPYTHON and len(secret) > _SHARED_BYTES:
        ctypes.memset(id(secret) + _BYTES_HEAD, 0, len(secret))


def scrub_freed(size_bytes: int) -> None:
    """Overwrite the blocks of one size that this thread has given back to the allocator last.

    For libraries that free a buffer without zeroing it: glibc keeps the last seven blocks of a size
    for the thread that freed them, newest first, so whoever asks again gets those. Called by the
    same thread, right after the library. On another C library it does nothing that harms.

    Args:
        size_bytes: as the library asked for it, at most 1 032; larger blocks are kept elsewhere.

    Source: glibc malloc.c, "thread local caching" (tcache).
    """
    if not _IS_LINUX:
        return
    blocks = [_MALLOC(size_bytes) for _ in range(_KEPT_BLOCKS)]
    for block in blocks:
        if block:
            ctypes.memset(block, 0, size_bytes)
            _FREE(block)


class Dek:
    """The key of one recording, 32 bytes; ``reveal`` is the one way out.

    Not comparable by value, not picklable, and its representation shows nothing.
    """

    __slots__ = ("_closed", "_secret")

    def __init__(self, secret: bytes | bytearray) -> None:
        """Copy the key; the caller still owns (and zeroes) what it passed.

        Raises:
            IntegrityFailure: it is not 32 bytes long.
        """
        if len(secret) != DEK_BYTES:
            raise IntegrityFailure(what="dek")
        self._closed = False
        self._secret = bytearray(secret)

    def reveal(self) -> bytes:
        """Return a fresh copy of the 32 bytes.

        Raises:
            LeaseLost: the key was closed.
        """
        secret = bytes(self._secret)
        if self._closed:  # looked at after the copy: a copy begun before closing is whole
            raise LeaseLost(what="dek")
        return secret

    def close(self) -> None:
        """Zero the key; every later ``reveal`` raises. May run twice."""
        self._closed = True
        wipe(self._secret)

    def __enter__(self) -> Self:
        """Use the key for one block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Zero the key at the block's end, whatever happened."""
        self.close()

    def __repr__(self) -> str:
        """Show nothing of the key."""
        return "Dek(redacted)"

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying: they would leave copies behind."""
        raise TypeError("a Dek is neither pickled nor copied")
