"""What runs under each ticket in this process, and how much of it was really delivered.

Counters live in memory and are saved to the ticket's row every 5 s; a crash loses at most that
much of the account, never the entry. A third parallel request ends the oldest one: a player that
seeks opens a new request before it closes the old one.

Thread-safe: routes deliver on the event loop, saving runs in a thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from vault.ticket import PARALLEL_MAX, Spans, merged

SAVE_EVERY_S: Final = 5.0


@dataclass(eq=False)
class Stream:
    """One running request of a ticket; ``cut`` tells it to stop before the next batch."""

    ticket: LiveTicket
    cut: bool = False


@dataclass(eq=False)
class LiveTicket:
    """The running account of one ticket in this process."""

    listen_id: str
    byte_budget: int
    bytes_saved: int
    bytes_unsaved: int = 0
    spans_unsaved: Spans = ()
    saved_s: float = 0.0
    streams: deque[Stream] = field(default_factory=deque)


@dataclass(frozen=True)
class Delivered:
    """What was delivered since the last save."""

    listen_id: str
    byte_count: int
    spans: Spans


class Streams:
    """The running streams of this process by ticket."""

    def __init__(self) -> None:
        """Start with none."""
        self._lock = threading.Lock()
        self._tickets: dict[str, LiveTicket] = {}
        self._saving: set[str] = set()
        self._saved = threading.Condition(self._lock)

    def begin(self, listen_id: str, *, byte_budget: int, bytes_saved: int, now_s: float) -> Stream:
        """Add a request; cuts the oldest one when two already run."""
        with self._lock:
            live = self._tickets.get(listen_id)
            if live is None:
                live = LiveTicket(listen_id, byte_budget, bytes_saved, saved_s=now_s)
                self._tickets[listen_id] = live
            while len(live.streams) >= PARALLEL_MAX:
                live.streams.popleft().cut = True
            stream = Stream(live)
            live.streams.append(stream)
            return stream

    def delivered(self, stream: Stream, first: int, last: int) -> None:
        """Count the inclusive clear bytes as sent; cuts the stream once the budget is used up."""
        with self._lock:
            live = stream.ticket
            live.bytes_unsaved += last - first + 1
            live.spans_unsaved = merged(live.spans_unsaved, first, last)
            if live.bytes_saved + live.bytes_unsaved >= live.byte_budget:
                for running in live.streams:
                    running.cut = True

    def due(self, stream: Stream, now_s: float) -> bool:
        """Tell whether this ticket's counters want saving."""
        return now_s - stream.ticket.saved_s >= SAVE_EVERY_S

    @contextmanager
    def saving(self, listen_id: str) -> Iterator[None]:
        """Hold one ticket's account while it is saved; waits for a save of it that runs already.

        What that one has taken is in no row yet: who closed the ticket meanwhile would tell less
        than was delivered.
        """
        with self._saved:
            self._saved.wait_for(lambda: listen_id not in self._saving)
            self._saving.add(listen_id)
        try:
            yield
        finally:
            with self._saved:
                self._saving.discard(listen_id)
                self._saved.notify_all()

    def take(self, listen_id: str, now_s: float) -> Delivered:
        """Hand over what was delivered since the last save; ``give_back`` when saving fails."""
        with self._lock:
            live = self._tickets.get(listen_id)
            if live is None:
                return Delivered(listen_id, 0, ())
            taken = Delivered(listen_id, live.bytes_unsaved, live.spans_unsaved)
            live.bytes_saved += live.bytes_unsaved
            live.bytes_unsaved, live.spans_unsaved, live.saved_s = 0, (), now_s
            return taken

    def give_back(self, taken: Delivered) -> None:
        """Count again what could not be saved."""
        with self._lock:
            live = self._tickets.get(taken.listen_id)
            if live is None:
                live = LiveTicket(taken.listen_id, 0, taken.byte_count)
                self._tickets[taken.listen_id] = live
            live.bytes_saved -= taken.byte_count
            live.bytes_unsaved += taken.byte_count
            for first, last in taken.spans:
                live.spans_unsaved = merged(live.spans_unsaved, first, last)

    def end(self, stream: Stream) -> None:
        """Forget a request that has ended; its counters stay until they are saved."""
        with self._lock:
            if stream in stream.ticket.streams:
                stream.ticket.streams.remove(stream)

    def forget(self, listen_id: str) -> None:
        """Drop an idle ticket whose counters are saved."""
        with self._lock:
            live = self._tickets.get(listen_id)
            if live is not None and not live.streams and not live.bytes_unsaved:
                del self._tickets[listen_id]

    def cut_all(self, listen_id: str) -> None:
        """Tell every request of a ticket to stop before its next batch."""
        with self._lock:
            live = self._tickets.get(listen_id)
            for stream in live.streams if live is not None else ():
                stream.cut = True

    def cut_everything(self) -> None:
        """Tell every request of this process to stop before its next batch: it is shutting down."""
        with self._lock:
            for live in self._tickets.values():
                for stream in live.streams:
                    stream.cut = True

    def running(self, listen_id: str) -> bool:
        """Tell whether a request of this ticket still runs in this process."""
        with self._lock:
            live = self._tickets.get(listen_id)
            return live is not None and bool(live.streams)

    def count(self) -> int:
        """Return how many requests run."""
        with self._lock:
            return sum(len(live.streams) for live in self._tickets.values())

    def unsaved(self) -> list[str]:
        """Return the tickets that have something to save, or are being saved."""
        with self._lock:
            waiting = {one for one, live in self._tickets.items() if live.bytes_unsaved}
            return sorted(waiting | self._saving)
