"""The load: who asks, and the platforms that deposit, all through the one door."""

from __future__ import annotations

import base64
import itertools
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from tests.fakes.loopback_issuer import LoopbackIssuer
from tests.soak.calls import Allowance, Call
from tests.soak.door import Answer, Door
from tests.soak.told import Deposit, Told

SLUG: Final = "acme"
KEPT: Final = "winter-sale"
SHORT: Final = "flash-sale"
DAY: Final = timedelta(days=1)
SHORT_RETENTION: Final = DAY
SHORT_S: Final = 75  # a start is kept to the minute, so this is the least that is not past already
PERSON_CALLS: Final = 4
JSON: Final = {"Content-Type": "application/json"}
BOUNDARY: Final = "call-and-its-metadata"
FINAL: Final = frozenset({"recording-erased", "deadline-passed"})


@dataclass
class Job:
    """One call on its way in; sent again, the same, until there is an answer."""

    call: Call
    external_id: str
    short: bool
    metadata: bytes
    due_s: float = 0.0
    tries: int = 0


@dataclass
class Callers:
    """What every caller shares.

    Attributes:
        stopped: no new work from here on. ending_s: when the load ends, monotonic.
    """

    door: Door
    issuer: LoopbackIssuer
    told: Told
    allowance: Allowance
    ending_s: float
    stopped: threading.Event = field(default_factory=threading.Event)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    people: Iterator[int] = field(default_factory=itertools.count)

    def headers(self, role: str) -> dict[str, str]:
        """Return a token of a person who has asked for nothing yet: a minute has its limits."""
        subject = f"{role}-{next(self.people)}"
        return self.issuer.headers(role, subject=subject, controller=SLUG) | JSON

    def pause(self, dice: random.Random, least_s: float, most_s: float) -> None:
        """Wait as people do, or until the end."""
        self.stopped.wait(dice.uniform(least_s, most_s))


def number_of(call: int) -> str:
    """Return whom a call was with: a few calls in a row are one person's."""
    return f"+3319900{call // PERSON_CALLS:04d}"


def run(work: Callable[[random.Random], None], callers: Callers, seed: int) -> threading.Thread:
    """Repeat some work until the end; an exception is a finding of its own."""

    def repeat() -> None:
        dice = random.Random(seed)
        while not callers.stopped.is_set():
            try:
                work(dice)
            except Exception as error:  # noqa: BLE001  # whatever it is, the judge must hear of it
                callers.told.accuse(f"the load itself failed: {type(error).__name__}: {error}")
                callers.stopped.wait(1)

    thread = threading.Thread(target=repeat, name=getattr(work, "__qualname__", "load"))
    thread.start()
    return thread


@dataclass
class Depositor:
    """A platform that sends each call until it is acknowledged, in both ways that there are."""

    callers: Callers
    waiting: list[Job] = field(default_factory=list)

    def work(self, dice: random.Random) -> None:
        """Send a call that waits, else a new one."""
        now = time.monotonic()
        due = [one for one in self.waiting if one.due_s <= now]
        job = due[0] if due else self.new(dice)
        if due:
            self.waiting.remove(job)
        self.send(dice, job)
        self.callers.pause(dice, 0.1, 0.6)

    def new(self, dice: random.Random) -> Job:
        """Make up a call: mostly kept for months, some near the end of their retention."""
        now = time.monotonic()
        number = next(self.callers.numbers)
        short = dice.random() < 0.2 and now < self.callers.ending_s - SHORT_S
        size = self.callers.allowance.choose(dice, now)
        form = dice.random() < 0.25
        started = datetime.now(UTC) - timedelta(seconds=30)
        if short:
            started += timedelta(seconds=30 + SHORT_S) - SHORT_RETENTION
        said = {
            "started_at": started.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "direction": "outbound",
            "agent": f"agent-{number % 7}",
            "contact_number": number_of(number),
        }
        external_id = "" if form else f"call-{number}"
        return Job(Call(number, size), external_id, short, json.dumps(said).encode())

    def send(self, dice: random.Random, job: Job) -> None:
        """Send it once; without a final answer it waits for its next turn."""
        told = self.callers.told
        if job.external_id:
            told.pending.add(job.external_id)
        job.tries += 1
        answer = put(self.callers, job)
        if answer.good:
            told.deposited(acknowledged(job, answer))
        elif job.external_id and answer.code not in FINAL:
            job.due_s = time.monotonic() + dice.uniform(0.5, 3)
            self.waiting.append(job)
            return
        told.pending.discard(job.external_id)


def put(callers: Callers, job: Job) -> Answer:
    """Deposit a call: by its own id, or without one as a form."""
    who = callers.issuer.headers("intake", subject="pbx", controller=SLUG)
    campaign = SHORT if job.short else KEPT
    path = f"/v1/campaigns/{campaign}/recordings"
    if job.external_id:
        said = base64.urlsafe_b64encode(job.metadata).rstrip(b"=").decode()
        how = {"Content-Type": "audio/wav", "Oubliette-Metadata": said}
        return callers.door.ask(
            "deposit", "PUT", f"{path}/{job.external_id}", job.call.body, **who, **how
        )
    kind = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return callers.door.ask("deposit", "POST", path, form(job), **who, **kind)


def form(job: Job) -> bytes:
    """Return a call as a form: metadata first, then audio."""
    part = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="%s"%s\r\nContent-Type: %s\r\n\r\n'
    )
    return b"".join(
        (
            (part % ("metadata", "", "application/json")).encode(),
            job.metadata,
            b"\r\n",
            (part % ("audio", '; filename="call.wav"', "audio/wav")).encode(),
            job.call.body,
            f"\r\n--{BOUNDARY}--\r\n".encode(),
        )
    )


def acknowledged(job: Job, answer: Answer) -> Deposit:
    """Return what a 2xx promises."""
    said = answer.json
    return Deposit(
        recording_id=str(said["id"]),
        external_id=job.external_id,
        call=job.call.number,
        size=job.call.size,
        sha256=job.call.sha256,
        leaf_hash=str(said["leaf_hash"]),
        short=job.short,
        at_s=time.monotonic(),
    )
