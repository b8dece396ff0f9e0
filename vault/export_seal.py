"""Sealing an export to its receiver's own key as it streams (age v1, X25519).

The one door to ``pyrage`` (the Rust implementation of age). It pulls from a reader and pushes into
a writer, so it runs in a thread of its own between our pieces and the network; at most
``WAITING_PIECES`` sealed pieces of 64 KiB wait in memory, and nothing touches a disk. age's last
chunk says that it is the last: an export that is cut opens nowhere as if it were whole.

Does not protect against: what the receiver does with the clear audio afterwards.

Source: age-encryption.org/v1 (C2SP age.md).
"""

from __future__ import annotations

import contextvars
import hashlib
import queue
import re
import threading
from collections.abc import Iterator
from typing import Final

import pyrage

from vault.errors import RecipientInvalid

WAITING_PIECES: Final = 16
_LOOK_S: Final = 0.2
_RECIPIENT: Final = re.compile(r"age1[02-9ac-hj-np-z]{58}")


def check_recipient(recipient: str) -> str:
    """Return an age public key as it was given.

    Raises:
        RecipientInvalid: it is none (a private key, a plugin's, a passphrase); never repeated.
    """
    if not _RECIPIENT.fullmatch(recipient):
        raise RecipientInvalid
    try:
        pyrage.x25519.Recipient.from_str(recipient)
    except pyrage.RecipientError as err:
        raise RecipientInvalid from err
    return recipient


def recipient_fingerprint(recipient: str) -> str:
    """Return what the ledger says of a receiver: SHA-256 of the public key, 64 hex digits."""
    return hashlib.sha256(recipient.encode()).hexdigest()


class SealedStream:
    """Sealed pieces, one after another; closing it early ends the thread behind it."""

    def __init__(self, clear: Iterator[bytes], recipient: str) -> None:
        """Take what is to be sealed; the thread starts with the first piece that is asked for."""
        self._clear = clear
        self._recipient = pyrage.x25519.Recipient.from_str(recipient)
        self._ready: queue.Queue[bytes] = queue.Queue(WAITING_PIECES)
        self._left = b""
        self._closed = threading.Event()
        self._failed: BaseException | None = None
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._seal,), name="export-seal", daemon=True
        )

    def next_piece(self) -> bytes:
        """Return the next sealed piece, b"" once all is sealed.

        Raises:
            Whatever ended the clear side: nothing more is sealed then, and the file stays cut.
        """
        if self._thread.ident is None:
            self._thread.start()
        while True:
            try:
                piece = self._ready.get(timeout=_LOOK_S)
            except queue.Empty:
                if not self._thread.is_alive() and self._ready.empty():
                    piece = b""
                else:
                    continue
            if not piece and self._failed is not None:
                raise self._failed
            return piece

    def close(self) -> None:
        """End the thread; safe to call twice."""
        self._closed.set()
        if self._thread.ident is not None:
            self._thread.join()

    def read(self, size: int = -1) -> bytes:
        """Give the sealer at most ``size`` clear bytes, b"" at the end."""
        while not self._left:
            if self._closed.is_set():
                raise BrokenPipeError
            self._left = next(self._clear, b"")
            if not self._left:
                return b""
        size = len(self._left) if size < 0 else size
        given, self._left = self._left[:size], self._left[size:]
        return given

    def write(self, sealed: bytes) -> int:
        """Take sealed bytes from the sealer, waiting for room."""
        while not self._closed.is_set():
            try:
                self._ready.put(bytes(sealed), timeout=_LOOK_S)
            except queue.Full:
                continue
            return len(sealed)
        raise BrokenPipeError

    def flush(self) -> None:
        """Do nothing: every write is whole."""

    def _seal(self) -> None:
        try:
            pyrage.encrypt_io(_Kept(self), self, [self._recipient])
        except Exception as err:  # noqa: BLE001 - the reader's own fault, kept below, says more
            self._failed = self._failed or err
        finally:
            self._left = b""
            while not self._closed.is_set():
                try:
                    self._ready.put(b"", timeout=_LOOK_S)
                except queue.Full:
                    continue
                break

    def keep(self, fault: BaseException) -> None:
        """Remember what ended the clear side; the library would only repeat its text."""
        self._failed = self._failed or fault


class _Kept:
    """The reader as the library sees it."""

    def __init__(self, stream: SealedStream) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except BaseException as fault:
            self._stream.keep(fault)
            raise
