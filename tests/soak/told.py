"""What callers were told during a soak, and when: the only thing the judge believes them for.

Instants are ``time.monotonic()`` of the process that loads the service, in seconds.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final

KEPT: Final = 20_000
ABOUT: Final = 6
_ID: Final = re.compile(r"(?:rec|ent|era)_[0-9a-z]{26}")


@dataclass(frozen=True)
class Deposit:
    """One deposit that got a 2xx.

    Attributes:
        external_id: "" when the sender gave none (a form).
        call: number of the made-up call; its audio can be made again from it.
        short: its retention ends during the run.
    """

    recording_id: str
    external_id: str
    call: int
    size: int
    sha256: str
    leaf_hash: str
    short: bool
    at_s: float


@dataclass(frozen=True)
class Heard:
    """Bytes of audio that came out of one request.

    Attributes:
        leaf_hash: of the entry that the 201 of the listen named.
        marks: (instant, bytes so far) as they came.
    """

    entry_id: str
    leaf_hash: str
    recording_id: str
    count: int
    began_s: float
    last_s: float
    marks: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Ticket:
    """An address that played a recording once."""

    recording_id: str
    path: str
    entry_id: str
    leaf_hash: str


@dataclass
class Told:
    """Everything that was acknowledged, refused and seen; safe for many threads.

    Attributes:
        pending: external ids that some caller sent and has no final answer for.
        grants: by entry of a listen that was granted, its leaf hash.
        ordered: recordings of an erasure whose execution was sent, whatever came back.
        erased: by recording, when its erasure was known as done.
        certificates: by erasure, the certificate.
        refusals: by (what was asked, code or status).
        wrong: answers that no design allows, in words.
        notes: the newest events with their instants.
    """

    deposits: dict[str, Deposit] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    grants: dict[str, str] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    ordered: set[str] = field(default_factory=set)
    erasures: dict[str, list[str]] = field(default_factory=dict)
    erased: dict[str, float] = field(default_factory=dict)
    certificates: dict[str, str] = field(default_factory=dict)
    searches: int = 0
    probes: int = 0
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    quiet_s: float = 0.0
    notes: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    began_s: float = field(default_factory=time.monotonic)
    _good_s: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def good(self) -> None:
        """Note a 2xx."""
        now = time.monotonic()
        with self._lock:
            self.quiet_s = max(self.quiet_s, now - self._good_s)
            self._good_s = max(now, self._good_s)

    def end(self) -> None:
        """Note the end of the load: silences after it are nobody's."""
        self.good()
        self._good_s = float("inf")

    def note(self, what: str) -> None:
        """Keep an event with its instant."""
        self.notes.append(f"{time.monotonic() - self.began_s:8.3f} {what}")

    def about(self, what: str) -> list[str]:
        """Return the newest events that name an id of some words."""
        named = [note for note in list(self.notes) if any(one in note for one in _ID.findall(what))]
        return named[-ABOUT:]

    def accuse(self, what: str) -> None:
        """Keep an event that must not happen."""
        self.note(f"WRONG {what}")
        with self._lock:
            self.wrong.append(f"{time.monotonic() - self.began_s:.1f} s: {what}")

    def refuse(self, asked: str, code: str) -> None:
        """Count an answer that is no 2xx."""
        with self._lock:
            self.refusals[asked, code] += 1

    def deposited(self, one: Deposit) -> None:
        """Keep an acknowledged deposit; a second answer for one external id names the same id."""
        key = one.external_id or one.recording_id
        with self._lock:
            before = self.deposits.setdefault(key, one)
        if before.recording_id != one.recording_id:
            self.accuse(f"two ids for {key}: {before.recording_id} and {one.recording_id}")
        self.note(f"deposit {key} {one.recording_id} {one.size} bytes")

    def hear(self, one: Heard) -> None:
        """Keep bytes that came out."""
        with self._lock:
            self.heard.append(one)
        self.note(f"heard {one.recording_id} {one.count} bytes, entry {one.entry_id}")

    def erase(self, recording_id: str, how: str) -> None:
        """Keep that an erasure was said to be done."""
        with self._lock:
            self.erased.setdefault(recording_id, time.monotonic())
        self.note(f"erased {recording_id} ({how})")

    def alive(self) -> list[Deposit]:
        """Return what was acknowledged and that nobody asked to erase."""
        with self._lock:
            return [one for one in self.deposits.values() if one.recording_id not in self.ordered]

    def unended(self) -> list[Deposit]:
        """Return what ends soon by its retention and is not known to have ended."""
        known = list(self.deposits.values())
        return [one for one in known if one.short and one.recording_id not in self.erased]

    def gone(self) -> list[str]:
        """Return what is known to be erased."""
        with self._lock:
            return list(self.erased)
