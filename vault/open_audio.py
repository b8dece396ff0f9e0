"""The second half of the listen flow: from a ticket to verified sound, batch by batch.

``admit`` looks at the ticket and names what may be played; ``open`` authenticates the last and the
first chunk before any status line goes out; ``OpenAudio`` then gives one batch at a time. A running
stream looks at its ticket, its recording and the listener's right again every second or 1 MiB:
after an erasure, a restriction, a freeze or the end of a grant no further batch leaves. A stopped
machine that wakes may still emit the one batch it held.

Anything wrong with a ticket is one and the same ``TicketEnded``: whoever tries addresses learns
nothing from the difference.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import Connection

from core.db import Database
from core.ports import Clock
from core.scope import for_all_controllers, narrow
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault import listen_store as rows
from vault import ticket as tickets
from vault.errors import ListenDenied, RecordingErased, TicketEnded
from vault.listen_account import ListenAccounts
from vault.listen_store import Heard, TicketRow
from vault.ports import ObjectStore
from vault.rights import Rights
from vault.sealed_audio import AudioReader
from vault.stream_turns import StreamTurns, Turn
from vault.streams import Stream, Streams

FIRST_BATCH_BYTES: Final = 64 * 1024
BATCH_BYTES: Final = 256 * 1024
RECHECK_S: Final = 1.0
RECHECK_BYTES: Final = 1024 * 1024
ETAG_BYTES: Final = 16


@dataclass(frozen=True)
class Admission:
    """A valid ticket and what it plays."""

    ticket: TicketRow
    heard: Heard

    @property
    def total_bytes(self) -> int:
        """Return the clear length that the row states; ``Player.open`` proves it."""
        return self.heard.recording.clear_bytes

    @property
    def etag(self) -> str:
        """Return the strong ETag: 16 bytes of the key commitment, quoted."""
        digits = base64.urlsafe_b64encode(self.heard.recording.commitment[:ETAG_BYTES])
        return f'"{digits.rstrip(b"=").decode()}"'


@dataclass(frozen=True)
class Player:
    """Opens audio for tickets."""

    database: Database
    keyring: Keyring
    store: ObjectStore
    accounts: ListenAccounts
    streams: Streams
    clock: Clock
    turns: StreamTurns
    grants_required: bool = False

    @property
    def rights(self) -> Rights:
        """Return what tells whether a running listen may go on."""
        return Rights(self.database, self.grants_required)

    def admit(self, listen_id: str, *, ticket: str, cookie: str) -> Admission:
        """Check a ticket without using it up; leaves no entry and costs no budget.

        Raises:
            TicketEnded: unknown, not this ticket, its cookie missing, over, or used up.
            RecordingErased: the ticket was good, its recording is gone.
        """
        # whose the ticket is, only its row tells
        with for_all_controllers(), self.database.read() as connection:
            row = self._valid_ticket(connection, listen_id, ticket=ticket, cookie=cookie)
            heard = rows.find_heard(connection, row.controller_id, row.recording_id)
        narrow(row.controller_id, self.accounts.ledger.ledger_controller_id)
        if heard is None:
            raise TicketEnded
        return Admission(row, heard)

    def open(self, admission: Admission, *, first: int, last: int) -> OpenAudio:
        """Prove the length and open the first batch of the inclusive clear range.

        Raises:
            IntegrityFailure: row and object do not agree, or a chunk is not authentic.
            RecordingErased: its leaf is gone.
            KeyUnavailable, LeaseLost, StoreUnavailable, ObjectMissing: nothing is sent.
        """
        self.keyring.warm(admission.heard.recording.controller_id)
        reader = AudioReader(self.keyring, self.store, admission.heard.sealed)
        audio = OpenAudio(self, admission, reader, first=first, last=last)
        try:
            audio.open_first()
        except LeafPunctured as err:
            raise RecordingErased(recording_id=admission.heard.recording.id) from err
        return audio

    def prove(self, admission: Admission) -> None:
        """Show that object and row belong together and how long the audio is: enough for HEAD.

        Raises:
            As ``open`` does.
        """
        self.keyring.warm(admission.heard.recording.controller_id)
        reader = AudioReader(self.keyring, self.store, admission.heard.sealed)
        try:
            reader.prove()
        except LeafPunctured as err:
            raise RecordingErased(recording_id=admission.heard.recording.id) from err

    def check_running(self, admission: Admission) -> None:
        """Look again whether a running stream may go on.

        Raises:
            TicketEnded, RecordingErased: it may not.
        """
        with self.database.read() as connection:
            self._check_right(connection, admission.ticket)

    def _valid_ticket(
        self, connection: Connection, listen_id: str, *, ticket: str, cookie: str
    ) -> TicketRow:
        row = rows.find_ticket(connection, listen_id)
        if row is None or not tickets.matches(ticket, row.ticket_sha256):
            raise TicketEnded
        if row.cookie_sha256 and not tickets.matches(cookie, row.cookie_sha256):
            raise TicketEnded
        self._check_right(connection, row)
        if row.bytes_sent >= row.byte_budget:
            raise TicketEnded
        return row

    def _check_right(self, connection: Connection, row: TicketRow) -> None:
        """Refuse a ticket that is over, or whose account, role, grant or recording is."""
        try:
            if self.rights.check_running(connection, row.id):
                return
        except ListenDenied as err:
            raise TicketEnded from err
        if row.state != "closed":
            rows.find_heard(connection, row.controller_id, row.recording_id)  # erased says so
        raise TicketEnded


class OpenAudio:
    """One request's stream: give a batch, be told when it was sent, look up now and then.

    Not shared between threads; the calls of one stream may come from several threads in turn.
    """

    def __init__(
        self, player: Player, admission: Admission, reader: AudioReader, *, first: int, last: int
    ) -> None:
        """Take a reader and the inclusive clear range to play."""
        self._player = player
        self._admission = admission
        self._reader = reader
        self._first = first
        self._next = first
        self._sent_up_to = first
        self._last = last
        self._batch = b""
        self._stream: Stream | None = None
        self._turn: Turn | None = None
        self._checked_s = player.clock.boottime_s()
        self._unchecked_bytes = 0

    def open_first(self) -> None:
        """Prove the length and open the first batch: damage there is an error and not a cut."""
        if self._next <= self._last:
            end = min(self._next + FIRST_BATCH_BYTES - 1, self._last)
            self._batch = self._reader.prove_and_read(self._next, end)
            self._next = end + 1
        else:
            self._reader.prove()
        ticket = self._admission.ticket
        length = self._last - self._first + 1
        self._turn = self._player.turns.begin(ticket.id, length)
        self._stream = self._player.streams.begin(
            ticket.id,
            byte_budget=ticket.byte_budget,
            bytes_saved=ticket.bytes_sent,
            now_s=self._checked_s,
        )

    def next_batch(self) -> bytes:
        """Return the next clear bytes, b"" at the end.

        Raises:
            TicketEnded: the ticket ended, or a newer request of it took over.
            IntegrityFailure, LeafPunctured, LeaseLost, KeyUnavailable, StoreUnavailable: cut here.
        """
        if self._stream is None or self._stream.cut:
            raise TicketEnded
        if self._batch:
            batch, self._batch = self._batch, b""
            return batch
        return self._read(BATCH_BYTES)

    def delivered(self, byte_count: int) -> None:
        """Count the batch as sent, once the server has handed it to the network."""
        if self._stream is not None and byte_count:
            first = self._sent_up_to
            self._player.streams.delivered(self._stream, first, first + byte_count - 1)
            self._sent_up_to = first + byte_count
            self._unchecked_bytes += byte_count

    @property
    def upkeep_due(self) -> bool:
        """Tell whether ``upkeep`` must run before the next batch."""
        return self.look_is_old or self._unchecked_bytes >= RECHECK_BYTES or self._share_is_short

    @property
    def look_is_old(self) -> bool:
        """Tell whether ``upkeep`` last began a second ago or more."""
        return self._player.clock.boottime_s() - self._checked_s >= RECHECK_S

    def upkeep(self) -> None:
        """Save counters that are due, renew the lease, and check that the stream may go on.

        Raises:
            TicketEnded, RecordingErased, KeyUnavailable: it may not; nothing more is sent.
        """
        now_s = self._player.clock.boottime_s()
        due = self._stream is not None and self._player.streams.due(self._stream, now_s)
        if due or self._share_is_short:
            self._player.accounts.save(self._admission.ticket.id)
        self._player.check_running(self._admission)
        self._keep_turn(due=due)
        self._player.keyring.warm(self._admission.heard.recording.controller_id)
        self._checked_s, self._unchecked_bytes = now_s, 0

    def close(self) -> None:
        """Free the slot; safe to call twice. The account is saved by the next upkeep or close."""
        self._batch = b""
        if self._stream is not None:
            self._player.streams.end(self._stream)
        if self._turn is not None:
            self._player.turns.end(self._turn, self._player.accounts.save)
            self._turn = None

    @property
    def _share_is_short(self) -> bool:
        """Tell whether the next batch would go beyond what this request may send by now."""
        if self._turn is None or self._next > self._last:
            return False
        ahead = min(BATCH_BYTES, self._last - self._next + 1)
        return self._next - self._first + ahead > self._turn.allowed_bytes

    def _keep_turn(self, *, due: bool) -> None:
        """Look whether another process's request took this one's place; ask for a share if short.

        Raises:
            TicketEnded: it did, or nothing is left of the budget.
        """
        if self._turn is None:
            return
        if due or self._share_is_short:
            sent = self._sent_up_to - self._first
            self._turn = self._player.turns.go_on(self._turn, sent)
        else:
            self._player.turns.check(self._turn)

    def _read(self, batch_bytes: int) -> bytes:
        if self._next > self._last:
            return b""
        end = min(self._next + batch_bytes - 1, self._last)
        if self._turn is not None:
            end = min(end, self._first + self._turn.allowed_bytes - 1)
        if end < self._next:
            raise TicketEnded
        clear = self._reader.read(self._next, end)
        self._next = end + 1
        return clear
