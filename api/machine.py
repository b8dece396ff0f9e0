"""The machine under the vault, as far as keys and clear memory may end up on its disks.

Read from ``/proc`` and ``/sys``; a file that is not there gives no answer rather than a good one.
"""

from __future__ import annotations

import os
import re
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
SYS: Final = Path("/sys")
COPYING: Final = frozenset({"btrfs", "zfs", "bcachefs", "nilfs2", "apfs"})
LAYERED: Final = frozenset({"overlay", "aufs", "overlayfs"})
REMOTE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "afs"})
VOLATILE: Final = frozenset({"tmpfs", "ramfs"})
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of ``/proc/mounts``."""

    device: str
    folder: Path
    kind: str


def mount_of(folder: Path, *, proc: Path = PROC) -> Mount | None:
    """Return the file system that a folder (or the nearest one above it) lies on."""
    try:
        lines = (proc / "mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    where = folder.resolve()
    best: Mount | None = None
    for line in lines:
        device, mounted, kind, *_ = [_unescape(word) for word in line.split(" ")]
        at = Path(mounted)
        inside = where == at or at in where.parents
        if inside and (best is None or len(at.parts) >= len(best.folder.parts)):
            best = Mount(device, at, kind)
    return best


def swap_in_clear(*, proc: Path = PROC, sys: Path = SYS) -> list[str] | None:
    """Return the swap areas that are not encrypted; None when it cannot be told.

    A compressed swap in memory (zram) is none; a device of dm-crypt says so in its id.
    """
    try:
        lines = (proc / "swaps").read_text(encoding="utf-8").splitlines()[1:]
    except OSError:
        return None
    areas = [line.split()[0] for line in lines if line.strip()]
    return [area for area in areas if not _is_safe_swap(area, sys)]


def core_dumps_allowed() -> bool:
    """Tell whether a crash may write this process's memory to a disk."""
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    return soft != 0


def device_id(folder: Path) -> int | None:
    """Return a number that two folders share when they lie on one file system."""
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def _is_safe_swap(area: str, sys: Path) -> bool:
    name = Path(os.path.realpath(area)).name
    if name.startswith("zram"):
        return True
    try:
        uuid = (sys / "block" / name / "dm" / "uuid").read_text(encoding="utf-8")
    except OSError:
        return False
    return uuid.startswith("CRYPT-")


def _unescape(word: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), word)
