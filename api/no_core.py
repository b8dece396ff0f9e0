"""No core dump of a process that holds keys: its memory would lie on a disk, outside every promise.

Does not protect against swap, a snapshot of the machine (``oubliette doctor`` looks at swap), or
root.
"""

from __future__ import annotations

import contextlib
import resource


def leave_no_core() -> None:
    """Forbid core dumps, for this process and those that it starts, for good."""
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
