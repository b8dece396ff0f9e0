"""The load that ends recordings, and the watcher that tries to hear them afterwards."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from tests.soak.door import Answer
from tests.soak.listeners import check_heard, grant
from tests.soak.load import PERSON_CALLS, SHORT_S, Callers, Depositor, number_of
from tests.soak.told import Deposit, Ticket

ERASED_REASON: Final = "Objection received by letter this morning"
SETTLED_S: Final = 5.0
INSIST_S: Final = 120.0
GONE: Final = frozenset({"shredded", "deleted"})
MINUTE: Final = timedelta(minutes=1)


@dataclass
class Eraser:
    """An officer who erases single recordings, lists and persons, and asks for certificates.

    Attributes:
        keep: called before each erasure: somebody copies everything that lies there.
        running: erasures that were executed and are not certified yet.
    """

    callers: Callers
    depositors: list[Depositor]
    keep: Callable[[], None]
    running: dict[str, list[str]] = field(default_factory=dict)
    _next_s: float = 0.0

    def work(self, dice: random.Random) -> None:
        """Begin an erasure now and then, and follow those under way."""
        self.follow()
        if time.monotonic() > self._next_s and not self.callers.stopped.is_set():
            target = self.choose(dice)
            if target is not None:
                self.keep()
                self.erase(target)
            self._next_s = time.monotonic() + dice.uniform(1.0, 5.0)
        self.callers.pause(dice, 0.2, 0.5)

    def choose(self, dice: random.Random) -> dict[str, Any] | None:
        """Return a target among what is there for a while and is not on its way any more."""
        told, now = self.callers.told, time.monotonic()
        old = [one for one in told.alive() if not one.short and one.at_s < now - SETTLED_S]
        if len(old) < 2 * PERSON_CALLS:
            return None
        kind = dice.choice(("recording", "list", "person"))
        if kind == "recording":
            return {"kind": kind, "recording_id": dice.choice(old).recording_id}
        if kind == "list":
            some = dice.sample(old, dice.randrange(2, 6))
            return {"kind": kind, "recording_ids": [one.recording_id for one in some]}
        return self.person(dice, old)

    def person(self, dice: random.Random, old: list[Deposit]) -> dict[str, Any] | None:
        """Return a person none of whose calls is still being sent."""
        number = number_of(dice.choice(old).call)
        newest = max(one.call for one in old) // PERSON_CALLS
        sending = {number_of(job.call.number) for one in self.depositors for job in one.waiting}
        if number in sending or number == number_of(newest * PERSON_CALLS):
            return None
        return {"kind": "person", "number": number}

    def erase(self, target: dict[str, Any]) -> None:
        """Plan and execute, each again until it is known what became of it."""
        asked = {"target": target, "legal_ground": "objection", "reason": ERASED_REASON}
        planned = self.insist("plan", "/v1/erasures", asked, 201)
        if planned is None:
            return
        plan = planned.json
        going = [str(one["recording_id"]) for one in plan["items"] if one["refusal"] is None]
        told = self.callers.told
        told.ordered.update(going)
        told.note(f"erasure {plan['id']} {plan['kind']} of {going}")
        digest = {"plan_digest": plan["plan_digest"]}
        done = self.insist("execution", f"/v1/erasures/{plan['id']}/execution", digest, 202)
        if done is not None and going:  # nothing to erase: no certificate comes either
            self.running[plan["id"]] = told.erasures[plan["id"]] = going

    def insist(self, kind: str, path: str, said: dict[str, Any], expected: int) -> Answer | None:
        """Post until there is an answer; None when it is a refusal."""
        who, body = self.callers.headers("dpo"), json.dumps(said).encode()
        give_up = time.monotonic() + INSIST_S
        while True:
            answer = self.callers.door.ask(kind, "POST", path, body, **who)
            if answer.status == expected:
                return answer
            if 0 < answer.status < 500:
                return None
            if time.monotonic() > give_up:
                self.callers.told.accuse(f"{kind}: no answer for {INSIST_S} s")
                return None
            time.sleep(0.5)

    def follow(self) -> None:
        """Ask how far each erasure is; one that is done wants its certificate."""
        for erasure_id, going in list(self.running.items()):
            who = self.callers.headers("dpo")
            path = f"/v1/erasures/{erasure_id}"
            answer = self.callers.door.ask("erasure", "GET", path, None, **who)
            if not answer.good or answer.json["state"] != "done":
                continue
            for one in going:
                self.callers.told.erase(one, erasure_id)
            paper = self.callers.door.ask("certificate", "GET", f"{path}/certificate", None, **who)
            if paper.good:
                self.callers.told.certificates[erasure_id] = paper.body.decode()
                del self.running[erasure_id]


@dataclass
class Witness:
    """Looks for the end of what is past its retention, and tries to hear what is erased."""

    callers: Callers

    def work(self, dice: random.Random) -> None:
        """Look at one that should be gone by now, and probe some that are."""
        self.look(dice)
        for _ in range(3):
            self.probe(dice)
        self.callers.pause(dice, 0.2, 0.6)

    def look(self, dice: random.Random) -> None:
        """Ask whether some recording past its retention is erased."""
        told = self.callers.told
        due = self.due()
        if due:
            self.ask(dice.choice(due))
        told.ordered.update(one.recording_id for one in due)

    def due(self) -> list[Deposit]:
        """Return what may be past its retention, and is not known to be erased."""
        early = time.monotonic() - SHORT_S + MINUTE.total_seconds()
        return [one for one in self.callers.told.unended() if one.at_s < early]

    def ask(self, one: Deposit) -> None:
        """Ask for one recording's state."""
        who = self.callers.headers("dpo")
        path = f"/v1/recordings/{one.recording_id}"
        answer = self.callers.door.ask("show", "GET", path, None, **who)
        gone = (
            answer.code == "recording-erased" if not answer.good else (answer.json["state"] in GONE)
        )
        if gone:
            self.callers.told.erase(one.recording_id, "retention ended")

    def probe(self, dice: random.Random) -> None:
        """Try the old ticket and a new listen of something erased."""
        told = self.callers.told
        gone = told.gone()
        if not gone:
            return
        recording_id = dice.choice(gone)
        told.probes += 1
        old = told.tickets.get(recording_id)
        if old is not None:
            self.try_to_hear(old)
        new = grant(self.callers, recording_id)
        if new is not None:
            told.accuse(f"a listen was granted to what is erased: {recording_id}")
            self.try_to_hear(new)

    def try_to_hear(self, ticket: Ticket) -> None:
        """Ask for the audio; whatever comes is kept for the judge."""
        told = self.callers.told
        by_id = {one.recording_id: one for one in list(told.deposits.values())}
        piece = self.callers.door.play(ticket, 0, None, upto=1_000, pause_s=0)
        known = by_id.get(ticket.recording_id)
        if known is not None:
            check_heard(told, known, ticket, piece)
