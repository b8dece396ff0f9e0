"""Two settings of glibc's allocator that receiving audio depends on.

Receiving makes bytes objects of 64 to 256 KiB; left alone, glibc gives each back to the kernel and
faults it in again for the next. Keeping them halves the time of a deposit at the same peak.

Source: mallopt(3).
"""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

_SETTINGS: Final = ((-1, 256 * 2**20), (-3, 32 * 2**20), (-2, 16 * 2**20))  # trim, mmap, top pad


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory; False on another C library, which is left as it is."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all(mallopt(parameter, value) == 1 for parameter, value in _SETTINGS)
    return False
