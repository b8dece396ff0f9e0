"""The judge: from what callers were told and what is there in the end, to what does not hold. Pure.

*Lost*: a deposit that got a 2xx, was not erased, and does not play byte for byte, or whose ledger
entry is not in the tree, or that a resend does not find. *Unrecorded*: a listen of which a byte
came out and whose entry is not in the tree. *Served*: a byte of a recording that a request got
which began after its erasure was said to be done; or more than one piece, in a request that was
under way then, later than ``LATE_S`` after it. One piece may come late: a replica that was stopped
while it sent has it in its hands when it wakes (docs/erasure.md, 11), and so may sockets on the
way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.soak.told import Heard, Told

LATE_S: Final = 3.0
PIECE_BYTES: Final = 256 * 1024 + 2 * 65_536
MEMORY_GROWS_MIB: Final = (
    300.0  # three senders of long calls hold up to 24 MiB each, glibc keeps it
)
MEMORY_MIB: Final = 600.0


@dataclass(frozen=True)
class Finding:
    """Something that does not hold: which promise, of what."""

    name: str
    what: str


@dataclass(frozen=True)
class Found:
    """What is there when everything has settled.

    Attributes:
        plays: by recording, the sha-256 of its audio, or the code of the refusal.
        resent: by external id that was sent again, the recording's id or the code.
        on_replicas: by (replica, recording) of what was erased, the code of the refusal.
        leaves: every leaf hash of the tree, read by a stranger.
        ledger: what the stranger says of it, "" for nothing wrong.
        verify: what ``oubliette verify`` says, "" for nothing wrong.
        certificates: by erasure, what ``oubliette verify-certificate`` says, "" for nothing.
        opened: erased recordings that whoever kept every copy can still open.
        kept: recordings whose head was kept.
        waiting: by kind, how many are left waiting after the settle time.
        memory: of each replica, MiB after its start and in the end.
        kinds: of faults that had to happen.
    """

    plays: Mapping[str, str]
    resent: Mapping[str, str]
    on_replicas: Mapping[tuple[int, str], str]
    leaves: frozenset[str]
    ledger: str
    verify: str
    certificates: Mapping[str, str]
    opened: frozenset[str]
    kept: frozenset[str]
    waiting: Mapping[str, int]
    memory: Sequence[tuple[float, float]]
    kinds: frozenset[str] = field(default=frozenset())


def judge(told: Told, found: Found) -> list[Finding]:
    """Return everything that does not hold."""
    return [
        *_lost(told, found),
        *_unrecorded(told, found),
        *_served(told, found),
        *_opened(told, found),
        *_ledger(told, found),
        *_left(told, found),
        *(Finding("refused", one) for one in told.wrong),
    ]


def line(told: Told, findings: Sequence[Finding]) -> str:
    """Return the one line; what has no count of its own is named at its end."""

    def count(name: str) -> int:
        return len({one.what for one in findings if one.name == name})

    verified = "NOT verified" if count("ledger") else "verified"
    others = sorted({one.name for one in findings} - {"lost", "unrecorded", "served", "ledger"})
    besides = f"; NOT as promised: {', '.join(others)}" if others else ""
    return (
        f"soak: {len(told.deposits)} deposits acknowledged, {count('lost')} lost; "
        f"{len({one.entry_id for one in told.heard})} listens, {count('unrecorded')} unrecorded; "
        f"{len(told.erased)} erased, {count('served')} served; ledger {verified}{besides}"
    )


def _lost(told: Told, found: Found) -> Iterator[Finding]:
    for one in told.deposits.values():
        if one.leaf_hash not in found.leaves:
            yield Finding("lost", f"{one.recording_id}: its entry is not in the tree")
        gone = one.recording_id in told.ordered or one.short
        played = found.plays.get(one.recording_id, "not asked")
        if not gone and played != one.sha256:
            yield Finding("lost", f"{one.recording_id}: {played}")
    for external_id, answer in found.resent.items():
        if answer != told.deposits[external_id].recording_id:
            yield Finding("lost", f"{external_id}: sent again, {answer}")


def _unrecorded(told: Told, found: Found) -> Iterator[Finding]:
    missing = {one.entry_id for one in told.heard if one.leaf_hash not in found.leaves}
    for entry_id in sorted(missing):
        yield Finding("unrecorded", entry_id)
    for entry_id, leaf_hash in told.grants.items():
        if leaf_hash not in found.leaves and entry_id not in missing:
            yield Finding("ledger", f"{entry_id}: a caller was told of it, the tree has it not")


def _served(told: Told, found: Found) -> Iterator[Finding]:
    for one in told.heard:
        done_s = told.erased.get(one.recording_id)
        if done_s is not None and late_bytes(one, done_s) > _allowed(one, done_s):
            yield Finding("served", f"{one.recording_id}: {one.count} bytes, {one.entry_id}")
    for (replica, recording_id), answer in found.on_replicas.items():
        if answer != "recording-erased":
            yield Finding("served", f"{recording_id}: {answer} from replica {replica}")


def late_bytes(one: Heard, done_s: float) -> int:
    """Return how many bytes came after an erasure was said to be done, and not at once."""
    if one.began_s > done_s:
        return one.count
    before = max((count for at_s, count in one.marks if at_s <= done_s + LATE_S), default=0)
    return one.count - before if one.marks else 0


def _allowed(one: Heard, done_s: float) -> int:
    return 0 if one.began_s > done_s else PIECE_BYTES


def _opened(told: Told, found: Found) -> Iterator[Finding]:
    for one in sorted(found.opened & set(told.erased)):
        yield Finding("opened", f"{one}: by whoever kept every copy")
    alive = {one.recording_id for one in told.alive() if not one.short}
    if told.erased and not found.kept & set(told.erased):
        yield Finding("opened", "of what was erased nothing was kept, so nothing is shown")
    if alive and not found.opened & alive:
        yield Finding("opened", "not even what lives opens, so nothing is shown")


def _ledger(told: Told, found: Found) -> Iterator[Finding]:
    if found.ledger:
        yield Finding("ledger", f"to a stranger: {found.ledger}")
    if found.verify:
        yield Finding("ledger", f"to oubliette verify: {found.verify}")
    for erasure_id in told.erasures:
        said = found.certificates.get(erasure_id, "none came")
        if said:
            yield Finding("certificate", f"{erasure_id}: {said}")


def _left(told: Told, found: Found) -> Iterator[Finding]:
    for kind, count in found.waiting.items():
        if count:
            yield Finding("waiting", f"{count} {kind}")
    for number, (start, end) in enumerate(found.memory):
        if end > MEMORY_MIB or end > start + MEMORY_GROWS_MIB:
            yield Finding("memory", f"replica {number}: {start:.0f} MiB, then {end:.0f} MiB")
    for kind in sorted(found.kinds - set(told.faults)):
        yield Finding("faults", f"never happened: {kind}")
    counts = {
        "deposits": len(told.deposits),
        "listens": len(told.heard),
        "searches": told.searches,
        "erasures": len(told.erased),
        "probes of what was erased": told.probes,
    }
    for name, count in counts.items():
        if not count:
            yield Finding("load", f"no {name}")
