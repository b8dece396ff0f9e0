"""What is inside an export: a tar of audio, metadata and a manifest, made piece by piece.

    <exp id>/<rec id>.<ending>    the audio as it was deposited
    <exp id>/<rec id>.json        what was said about the call, the newest version
    <exp id>/manifest.json        last: what the others are, their SHA-256, the deposits' receipts

Names are ids and a fixed ending; nothing that a sender chose stands in a path, so no reader can be
led out of its folder. Owner, times and modes are fixed. Clear audio exists in the piece at hand.

Source: POSIX.1-2001 (pax); GNU tar writes lengths beyond 8 GiB in the same place.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

PIECE_BYTES: Final = 256 * 1024
_BLOCK: Final = 512
_ENDINGS: Final[Mapping[str, str]] = {
    "audio/wav": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/webm": "webm",
}


@dataclass(frozen=True)
class Member:
    """One recording on its way into the archive.

    Attributes:
        facts: what the manifest says of it. said: canonical JSON of its metadata.
        receipt: of its deposit. audio: clear pieces, ``clear_bytes`` in all.
    """

    recording_id: str
    media_type: str
    clear_bytes: int
    facts: Mapping[str, Any]
    said: bytes
    receipt: str
    audio: Iterator[bytes]


def archive(
    export_id: str, members: Iterator[Member], manifest: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yield the tar, piece by piece.

    Args:
        export_id: ``exp_`` id; the one folder.
        members: each is asked for once the one before is out.
        manifest: what the last file says besides the recordings.
    """
    listed: list[dict[str, Any]] = []
    for one in members:
        name = f"{one.recording_id}.{_ENDINGS.get(one.media_type, 'audio')}"
        yield _head(f"{export_id}/{name}", one.clear_bytes)
        digest, sent = hashlib.sha256(), 0
        for piece in one.audio:
            digest.update(piece)
            sent += len(piece)
            yield piece
        if sent != one.clear_bytes:
            raise ValueError("audio of another length than was announced")
        yield _padding(sent)
        yield from _file(f"{export_id}/{one.recording_id}.json", one.said)
        listed.append(_listed(one, name, digest.hexdigest()))
    whole = json.dumps({**manifest, "recordings": listed}, indent=1, sort_keys=True)
    yield from _file(f"{export_id}/manifest.json", whole.encode())
    yield bytes(2 * _BLOCK)


def _listed(one: Member, name: str, audio_sha256: str) -> dict[str, Any]:
    return {
        **one.facts,
        "audio": name,
        "audio_sha256": audio_sha256,
        "metadata": f"{one.recording_id}.json",
        "metadata_sha256": hashlib.sha256(one.said).hexdigest(),
        "deposit_receipt": one.receipt,
    }


def _file(name: str, content: bytes) -> Iterator[bytes]:
    yield _head(name, len(content))
    yield content + _padding(len(content))


def _head(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info.tobuf(format=tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % _BLOCK)
