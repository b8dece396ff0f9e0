"""After the load: let everything settle without touching it, then look at what is there."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import sqlalchemy as sa

from tests import ledger_verifier
from tests.soak.calls import Call
from tests.soak.door import BROKEN, Door
from tests.soak.endings import Eraser, Witness
from tests.soak.judge import Found
from tests.soak.keeper import Keeper, fetch
from tests.soak.listeners import grant
from tests.soak.load import SHORT, SHORT_RETENTION, Callers, Job, put
from tests.soak.rig import Rig
from tests.soak.told import Deposit, Told

SETTLE_S: Final = 240.0
ASK_AGAIN: Final = 5
PATIENCE_S: Final = 60.0  # a machine that others use too
WORKERS: Final = 4
RESENT: Final = 80
CERTIFICATES: Final = 4
WAITING: Final[Mapping[str, str]] = {
    "attempts open": "SELECT count(*) FROM attempts WHERE state = 'open'",
    "attempts not punctured": (
        "SELECT count(*) FROM attempts WHERE state IN ('refused', 'abandoned')"
    ),
    "erasures not done": (
        "SELECT count(*) FROM erasures WHERE state IN ('approved', 'running',"
        " 'waiting-key-provider')"
    ),
    "recordings half erased": (
        "SELECT count(*) FROM recordings WHERE state IN ('erasing', 'shredded')"
    ),
    "recordings overdue": (
        "SELECT count(*) FROM recordings r JOIN campaigns c ON c.id = r.campaign_id"
        " WHERE r.state = 'stored' AND c.slug = :short AND r.retention_from"
        " < (EXTRACT(EPOCH FROM clock_timestamp()) - :kept_s - 30) * 1000"
    ),
    "erasures without a certificate": (
        "SELECT count(*) FROM erasures WHERE state = 'done' AND certificate IS NULL"
        " AND shred_entry_id IS NOT NULL"
    ),
    "ledger entries without an index": "SELECT count(*) FROM ledger_entries WHERE seq IS NULL",
    "epochs not destroyed": ("SELECT count(*) FROM key_trees WHERE destroyed_epoch < epoch - 1"),
}

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def settle(rig: Rig, eraser: Eraser, witness: Witness) -> dict[str, int]:
    """Wait until nothing waits any more, for a bounded time; returns what is left."""
    told, give_up = eraser.callers.told, time.monotonic() + SETTLE_S
    rig.await_ready(rig.posts)
    while True:
        eraser.follow()
        for one in witness.due():
            witness.ask(one)
        left = waiting(rig)
        left["erasures that nobody heard the end of"] = len(eraser.running)
        left["recordings past their retention that still play"] = len(told.unended())
        if not any(left.values()) or time.monotonic() > give_up:
            return left
        time.sleep(1)


def waiting(rig: Rig) -> dict[str, int]:
    """Count what waits, in the rows themselves."""
    engine = sa.create_engine(rig.superuser, poolclass=sa.pool.NullPool)
    given = {"short": SHORT, "kept_s": int(SHORT_RETENTION.total_seconds())}
    with engine.connect() as connection:
        counted = {
            kind: int(connection.execute(sa.text(query), given).scalar_one())
            for kind, query in WAITING.items()
        }
    engine.dispose()
    return counted


def look(rig: Rig, callers: Callers, keeper: Keeper, left: dict[str, int]) -> Found:
    """Compare what was promised with what is there."""
    told, dice = callers.told, random.Random(1)
    alive = [one for one in told.alive() if not one.short]
    plays = spread(lambda one: play(callers, one), alive)
    again = [one for one in alive if one.external_id]
    resent = spread(lambda one: resend(callers, one), dice.sample(again, min(RESENT, len(again))))
    erased = sorted(told.erased)
    ports = [post.replica.port for post in rig.posts]
    said_no = spread(lambda port: refused(callers, port, erased), ports)
    refusals = {
        (number, one): answer
        for number, port in enumerate(ports)
        for one, answer in said_no[port].items()
    }
    ends = time.monotonic() + PATIENCE_S
    while waiting(rig)["ledger entries without an index"] and time.monotonic() < ends:
        time.sleep(0.2)
    leaves, said = read_ledger(rig)
    return Found(
        plays={one.recording_id: answer for one, answer in plays.items()},
        resent={one.external_id: answer for one, answer in resent.items()},
        on_replicas=refusals,
        leaves=leaves,
        ledger=said,
        verify=verified(rig),
        certificates=certified(rig, told, dice),
        opened=frozenset(opened_in_the_end(keeper, {one.recording_id for one in alive})),
        kept=frozenset(keeper.stranger.heads),
        waiting=left,
        memory=[
            (start, one.rss_mib) for start, one in zip(rig.started_mib, rig.posts, strict=True)
        ],
    )


def opened_in_the_end(keeper: Keeper, alive: set[str]) -> set[str]:
    """Copy, and open what opens, until some of it lives: it shows that the copies are good.

    The attempts of failed and repeated deposits are shredded meanwhile, each under a new key: what
    was copied before that opens no more, whatever it holds.
    """
    opened: set[str] = set()
    ends = time.monotonic() + PATIENCE_S
    while not opened & alive and time.monotonic() < ends:
        keeper.keep()
        opened |= keeper.stranger.opens()
    return opened


def spread(ask: Callable[[Item], Answer], items: Iterable[Item]) -> dict[Item, Answer]:
    """Ask about many things, a few at a time."""
    known = list(items)
    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(zip(known, pool.map(ask, known), strict=True))


def play(callers: Callers, one: Deposit) -> str:
    """Return the digest of the whole audio, or why there is none."""
    said, give_up = "no listen was granted", time.monotonic() + PATIENCE_S
    while time.monotonic() < give_up:
        ticket = grant(callers, one.recording_id)
        if ticket is not None:
            piece = callers.door.play(ticket, 0, None, upto=one.size + 1, pause_s=0)
            said = hashlib.sha256(piece.data).hexdigest()
            if piece.status in {200, 206} and len(piece.data) == one.size:
                return said
            said = f"{piece.status}, {len(piece.data)} of {one.size} bytes"
        time.sleep(1)
    return said


def resend(callers: Callers, one: Deposit) -> str:
    """Send a call once more; returns the id of the answer, or the code."""
    job = Job(Call(one.call, one.size), one.external_id, short=False, metadata=b"{}")
    answer, give_up = put(callers, job), time.monotonic() + PATIENCE_S
    while answer.status in {BROKEN, 503} and time.monotonic() < give_up:
        time.sleep(1)
        answer = put(callers, job)
    return str(answer.json["id"]) if answer.good else answer.code


def refused(callers: Callers, port: int, erased: list[str]) -> dict[str, str]:
    """Ask one replica for everything erased, by old tickets and new; returns the codes."""
    told = Told()
    there = Callers(Door(port, told), callers.issuer, told, callers.allowance, 0.0)
    there.people = callers.people

    def ask(recording_id: str) -> str:
        old = callers.told.tickets.get(recording_id)
        if old and there.door.play(old, 0, None, upto=1, pause_s=0).data:
            return "an old ticket plays"
        code, give_up = "not asked", time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            told.refusals.clear()
            if grant(there, recording_id) is not None:
                return "granted"
            code = min(code for _, code in told.refusals)
            if code == "recording-erased":
                return code
            time.sleep(1)
        return code

    return {one: ask(one) for one in erased}


def read_ledger(rig: Rig) -> tuple[frozenset[str], str]:
    """Read the ledger's files as a stranger does; returns the leaf hashes and what is wrong.

    It may grow while it is copied, and drop files that are whole elsewhere: then it is read again.
    """
    said = ""
    for number in range(ASK_AGAIN):
        folder = rig.folder / f"ledger-copy-{number}"
        try:
            fetch(rig, "ledger/", folder)
            return read_leaves(folder, ledger_verifier.verify(folder, rig.vkey)), ""
        except Exception as error:  # noqa: BLE001  # whatever a stranger stumbles over
            said = f"{type(error).__name__}: {error}"
        time.sleep(1)
    return frozenset(), said


def read_leaves(folder: Path, size: int) -> frozenset[str]:
    """Return the hash of every leaf."""
    leaves: list[bytes] = []
    for number in range(-(-size // 256)):
        bundle = ledger_verifier.read(folder, "entries", number, min(256, size - number * 256))
        leaves += [bundle[at + 2 : at + 122] for at in range(0, len(bundle), 122)]
    return frozenset(hashlib.sha256(b"\x00" + one).hexdigest() for one in leaves[:size])


def verified(rig: Rig) -> str:
    """Run ``oubliette verify`` over files, rows and texts."""
    done = rig.command("verify", "--json")
    return "" if done.returncode == 0 else (done.stderr or done.stdout)[-500:]


def certified(rig: Rig, told: Told, dice: random.Random) -> dict[str, str]:
    """Verify some certificates offline with the real command; all must be there."""
    said = dict.fromkeys(told.certificates, "")
    for erasure_id in dice.sample(sorted(said), min(CERTIFICATES, len(said))):
        file = Path(rig.folder) / f"{erasure_id}.txt"
        file.write_text(told.certificates[erasure_id])
        done = rig.command("verify-certificate", str(file), "--key", rig.vkey)
        said[erasure_id] = "" if done.returncode == 0 else done.stderr[-300:]
    return said
