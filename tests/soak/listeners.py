"""The load that hears: listens with seeks, and searches."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from tests.soak.calls import LONG, Call
from tests.soak.door import Answer, Piece
from tests.soak.load import DAY, KEPT, Callers, number_of
from tests.soak.told import Deposit, Heard, Ticket, Told

REASON: Final = "Monthly review of this team"
PURPOSE: Final = "quality-control"


@dataclass
class Listener:
    """Somebody who hears calls, jumps about in them, and takes time over long ones."""

    callers: Callers

    def work(self, dice: random.Random) -> None:
        """Hear one call."""
        known = self.callers.told.alive()
        if known:
            long = [one for one in known if one.size >= min(LONG)]
            one = dice.choice(long if long and dice.random() < 0.25 else known)
            ticket = grant(self.callers, one.recording_id)
            if ticket is not None:
                self.hear(dice, one, ticket)
        self.callers.pause(dice, 0.1, 0.5)

    def hear(self, dice: random.Random, one: Deposit, ticket: Ticket) -> None:
        """Play from the beginning, then from other places."""
        pause_s = 0.02 if one.size >= min(LONG) else 0.0
        first = 0
        for _ in range(dice.randrange(1, 5)):
            last = None if dice.random() < 0.5 else dice.randrange(first, one.size)
            upto = dice.choice((1, 100_000, one.size))
            piece = self.callers.door.play(ticket, first, last, upto=upto, pause_s=pause_s)
            check_heard(self.callers.told, one, ticket, piece)
            if self.callers.stopped.is_set():
                return
            first = dice.randrange(one.size)


def grant(callers: Callers, recording_id: str) -> Ticket | None:
    """Ask for a listen; None when it was refused or nothing came back."""
    asked = json.dumps({"purpose": PURPOSE, "reason": REASON}).encode()
    path = f"/v1/recordings/{recording_id}/listens"
    answer = callers.door.ask("listen", "POST", path, asked, **callers.headers("quality-manager"))
    if answer.status != 201:
        return None
    said = answer.json
    url = urlsplit(said["audio_url"])
    ticket = Ticket(
        recording_id, f"{url.path}?{url.query}", str(said["entry_id"]), str(said["leaf_hash"])
    )
    callers.told.grants[ticket.entry_id] = ticket.leaf_hash
    callers.told.tickets[recording_id] = ticket
    return ticket


def check_heard(told: Told, one: Deposit, ticket: Ticket, piece: Piece) -> None:
    """Keep what came out, and compare it with what was deposited."""
    if not piece.data:
        return
    told.hear(
        Heard(
            entry_id=ticket.entry_id,
            leaf_hash=ticket.leaf_hash,
            recording_id=one.recording_id,
            count=len(piece.data),
            began_s=piece.began_s,
            last_s=piece.last_s,
            marks=tuple(piece.marks),
        )
    )
    body = Call(one.call, one.size).body
    if bytes(piece.data) != body[piece.offset : piece.offset + len(piece.data)]:
        told.accuse(f"other audio than was deposited: {one.recording_id} from {piece.offset}")


@dataclass
class Searcher:
    """Somebody who looks for a person's calls."""

    callers: Callers

    def work(self, dice: random.Random) -> None:
        """Search for one person; what is shown must not have been erased before."""
        told = self.callers.told
        known = told.alive()
        if known:
            began = time.monotonic()
            number = number_of(dice.choice(known).call)
            asked = {"number": number, "campaign": KEPT, "purpose": PURPOSE, "reason": REASON}
            today = datetime.now(UTC)
            for name, day in (("from", today - DAY), ("to", today + DAY)):
                asked[name] = day.strftime("%Y-%m-%dT%H:%M:%SZ")
            who = self.callers.headers("quality-manager")
            answer = self.callers.door.ask(
                "search", "POST", "/v1/searches", json.dumps(asked).encode(), **who
            )
            if answer.good:
                self.check(answer, number, began)
        self.callers.pause(dice, 1.0, 3.0)

    def check(self, answer: Answer, number: str, began_s: float) -> None:
        """Compare a page with what is known: nothing erased on it, and nothing missing."""
        told = self.callers.told
        told.searches += 1
        shown = {str(one["id"]) for one in answer.json["items"]}
        for one in shown:
            if told.erased.get(one, began_s) < began_s:
                told.accuse(f"a search shows what was erased: {one}")
        expected = {
            one.recording_id
            for one in told.alive()
            if number_of(one.call) == number and not one.short and one.at_s < began_s
        }
        if answer.json["next"] is None and not expected <= shown:
            told.accuse(f"a search misses {sorted(expected - shown)}")
