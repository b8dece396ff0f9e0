"""What the doctor sees of the machine: file systems under keys, swap, room, permissions."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from api import machine
from api.background import ROOM_FACTOR, local_folders
from api.finding import Finding
from api.settings import Settings


def machine_findings(settings: Settings) -> Iterator[Finding]:
    """Yield what is found without opening the vault."""
    for folder in key_folders(settings):
        yield _file_system(folder)
        yield from _permissions(folder)
    yield from _one_disk("keys", key_folders(settings))
    yield from _one_disk("blob places", blob_folders(settings))
    yield _swap(settings)
    if machine.core_dumps_allowed():
        yield Finding("warn", "core-dumps", "a crash may write key material to disk: ulimit -c 0")
    yield _room(settings)
    if not settings.anchor_uri:
        text = "anchor: none; a restored snapshot of everything, keys included, cannot be detected"
        yield Finding("warn", "anchor", text)


def key_folders(settings: Settings) -> list[Path]:
    """Return the folders of local epoch keys and of the signing key."""
    found: list[Path] = []
    for uri in (*settings.keys_uris, settings.signing_key_uri):
        if uri.startswith("local:"):
            found += [Path(part) for part in uri.removeprefix("local:").split(",")]
    return found


def blob_folders(settings: Settings) -> list[Path]:
    """Return the blob places that are folders of this machine."""
    parts = [urlsplit(uri) for uri in settings.blob_places]
    return [Path(unquote(one.path)) for one in parts if one.scheme == "file"]


def _file_system(folder: Path) -> Finding:
    mount = machine.mount_of(folder)
    if mount is None:
        return Finding("warn", "key-files", f"{folder}: the file system cannot be told")
    where = f"{folder} lies on {mount.kind}"
    if mount.kind in machine.COPYING:
        text = f"{where}: copy-on-write keeps old blocks of destroyed keys; keep keys elsewhere"
        return Finding("warn", "key-files", text)
    if mount.kind in machine.LAYERED | machine.REMOTE or mount.kind.startswith("fuse"):
        text = f"{where}: an overwrite does not reach the medium; keep keys on a disk of their own"
        return Finding("warn", "key-files", text)
    if mount.kind in machine.VOLATILE:
        return Finding("warn", "key-files", f"{where}: the keys are gone after a restart")
    return Finding("ok", "key-files", where)


def _permissions(folder: Path) -> Iterator[Finding]:
    if folder.is_dir() and folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("fail", "key-files", f"{folder} may be entered by others: chmod 0700")


def _one_disk(what: str, folders: Sequence[Path]) -> Iterator[Finding]:
    devices = [machine.device_id(folder) for folder in folders if folder.is_dir()]
    if len(devices) > 1 and len(set(devices)) == 1:
        yield Finding("warn", "one-disk", f"every folder of {what} lies on one file system")


def _swap(settings: Settings) -> Finding:
    clear = machine.swap_in_clear()
    if clear is None:
        return Finding("warn", "swap", "it cannot be told whether swap is encrypted")
    if not clear:
        return Finding("ok", "swap", "none, or encrypted")
    text = f"not encrypted: {', '.join(clear)}; key material may end there: swapoff, or dm-crypt"
    return Finding("fail" if settings.production else "warn", "swap", text)


def _room(settings: Settings) -> Finding:
    needed = ROOM_FACTOR * settings.recording_max_bytes
    for folder in local_folders(settings):
        existing = folder
        while not existing.exists():
            existing = existing.parent
        free = shutil.disk_usage(existing).free
        if free < needed:
            text = f"{folder}: {free // 2**20} MiB free, {needed // 2**20} MiB needed"
            return Finding("fail", "room", text)
    return Finding("ok", "room", "enough for two of the largest recordings")
