"""The second half of an export: from approved recordings to one sealed file, piece by piece.

Each recording is asked about again before its audio is opened, and every second while it is read;
an erasure, a restriction or a lost right in mid-stream ends the file before its last chunk. Clear
audio exists in the piece at hand and nowhere else.

Does not protect against: a receiver who keeps what arrived before a cut and opens those chunks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from core.clock import to_text
from keys.errors import LeafPunctured
from vault import metadata
from vault.access import Actor
from vault.errors import RecordingErased
from vault.export import Begun, Exports
from vault.export_archive import PIECE_BYTES, Member, archive
from vault.export_seal import SealedStream, recipient_fingerprint
from vault.listen_store import Heard
from vault.sealed_audio import AudioReader
from vault.store import open_metadata

LOOK_UP_S: Final = 1.0


class OpenExport:
    """One sending: give a sealed piece, be told when it went out, end."""

    def __init__(
        self,
        exports: Exports,
        actor: Actor,
        begun: Begun,
    ) -> None:
        """Take an export whose start is in the ledger."""
        self.row = begun.row
        self._exports = exports
        self._actor = actor
        self._begun = begun
        self._looked_s = exports.clock.boottime_s()
        self._bytes_sent = 0
        self._ended = False
        self._stream = SealedStream(
            archive(self.row.id, self._members(), self._manifest()), self.row.recipient
        )

    def next_piece(self) -> bytes:
        """Return the next sealed piece, b"" at the end; blocks, so it is called in a thread.

        Raises:
            RecordingErased, ListenDenied, IntegrityFailure, KeyUnavailable, StoreUnavailable: cut.
        """
        return self._stream.next_piece()

    def delivered(self, byte_count: int) -> None:
        """Count a piece that has been handed to the network."""
        self._bytes_sent += byte_count

    def end(self, *, whole: bool) -> None:
        """Free everything and record how it ended; a second call does nothing."""
        if self._ended:
            return
        self._ended = True
        self._stream.close()
        self._exports.finish(self._actor, self.row, bytes_sent=self._bytes_sent, whole=whole)

    def _manifest(self) -> dict[str, Any]:
        row = self.row
        return {
            "v": 1,
            "export": row.id,
            "kind": row.kind,
            "controller": row.controller_id,
            "requested_by": row.actor_id,
            "requested_entry": row.requested_entry_id,
            "approval": row.approval_id,
            "entry": self._begun.entry.id,
            "entry_leaf_hash": self._begun.entry.leaf_hash.hex(),
            "purpose": row.purpose,
            "recipient_sha256": recipient_fingerprint(row.recipient),
        }

    def _members(self) -> Iterator[Member]:
        exports = self._exports
        for heard in self._begun.heard:
            recording = heard.recording
            self._look(recording.id, force=True)
            said = _erased_if_punctured(
                partial(open_metadata, exports.keyring, recording), recording.id
            )
            yield Member(
                recording_id=recording.id,
                media_type=recording.media_type,
                clear_bytes=recording.clear_bytes,
                facts=_facts(heard),
                said=metadata.to_canonical(said or metadata.Metadata()),
                receipt=exports.receipts.again(self._actor, recording.id),
                audio=self._audio(heard),
            )

    def _audio(self, heard: Heard) -> Iterator[bytes]:
        exports, total = self._exports, heard.recording.clear_bytes
        reader = AudioReader(exports.keyring, exports.store, heard.sealed)
        _erased_if_punctured(reader.prove, heard.recording.id)
        for first in range(0, total, PIECE_BYTES):
            self._look(heard.recording.id)
            last = min(first + PIECE_BYTES, total) - 1
            yield _erased_if_punctured(partial(reader.read, first, last), heard.recording.id)

    def _look(self, recording_id: str, *, force: bool = False) -> None:
        """Renew the lease on the keys and ask again whether this may leave, every second."""
        exports = self._exports
        now_s = exports.clock.boottime_s()
        if not force and now_s - self._looked_s < LOOK_UP_S:
            return
        self._looked_s = now_s
        exports.keyring.warm(self.row.controller_id)
        exports.check_still(self._actor, recording_id, self.row.purpose)


def _facts(heard: Heard) -> dict[str, Any]:
    """Return what the manifest says of a recording."""
    recording = heard.recording
    return {
        "id": recording.id,
        "campaign": recording.campaign_id,
        "campaign_slug": heard.campaign_slug,
        "started_at": to_text(recording.started_at),
        "stored_at": to_text(recording.stored_at),
        "media_type": recording.media_type,
        "codec": recording.codec,
        "clear_bytes": recording.clear_bytes,
        "duration_ms": recording.duration_ms,
        "deposit_entry": recording.deposit_entry_id,
    }


def _erased_if_punctured(act: Callable[[], Any], recording_id: str) -> Any:
    try:
        return act()
    except LeafPunctured as err:
        raise RecordingErased(recording_id=recording_id) from err
