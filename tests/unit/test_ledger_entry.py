"""Leaves, event texts and what an event may hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids
from core.errors import IntegrityFailure, InvalidRequest
from keys.model import Subject
from tests.fakes.clock import FakeClock
from tests.fakes.keyring import FakeKeyring
from vault.access import Actor
from vault.ledger.entry import Event, event_text, leaf_of, month_of, system_actor
from vault.ledger.leaf import (
    EVENT_CODES,
    LEAF_BYTES,
    Leaf,
    check_disclosure,
    commit_narrative,
    commit_text,
    first_malformed,
)
from vault.ledger.seal import EntrySealer

CONTROLLER = ids.from_bits("ctl_", bytes(range(16)))
LEDGER = ids.from_bits("ctl_", b"L" * 16)
CAMPAIGN = ids.from_bits("cmp_", b"c" * 16)
RECORDING = ids.from_bits("rec_", b"r" * 16)
ENTRY = ids.from_bits("ent_", b"e" * 16)
ACTOR = Actor(
    ids.from_bits("act_", b"a" * 16), "marie", "person", frozenset({"dpo", "auditor"}), CONTROLLER
)
AT = datetime(2026, 3, 2, 23, 59, 59, 999_000, tzinfo=UTC)
SUBJECT = Subject(CONTROLLER, CAMPAIGN, RECORDING, 3, 7)


def deposit(**more: Any) -> Event:
    digests = {"commitment": b"k" * 32, "body_sha256": b"b" * 32}
    return Event("recording-deposited", ACTOR, CONTROLLER, CAMPAIGN, RECORDING, **digests | more)


def listen(reason: str | None = "un motif valable", **more: Any) -> Event:
    subject = None if reason is None else SUBJECT
    fields: dict[str, Any] = {"narrative": reason, "narrative_subject": subject} | more
    return Event("listen-granted", ACTOR, CONTROLLER, CAMPAIGN, RECORDING, **fields)


def sealer() -> EntrySealer:
    keyring = FakeKeyring()
    keyring.warm(LEDGER)
    keyring.warm(CONTROLLER)
    return EntrySealer(keyring, FakeClock(), LEDGER)


def test_a_leaf_is_the_bytes_that_the_documentation_says() -> None:
    leaf = leaf_of(deposit(), AT, b"C" * 32).encode()
    day = (date(2026, 3, 2) - date(1970, 1, 1)).days
    assert leaf == (
        (1).to_bytes(2, "big")
        + (1).to_bytes(2, "big")
        + day.to_bytes(4, "big")
        + bytes(range(16))
        + b"C" * 32
        + b"k" * 32
        + b"b" * 32
    )
    assert len(leaf) == LEAF_BYTES
    without = leaf_of(listen(), AT, b"C" * 32).encode()
    assert without[56:] == bytes(64)


@pytest.mark.parametrize("name", sorted(EVENT_CODES))
def test_every_type_reads_back(name: str) -> None:
    leaf = Leaf(name, date(2026, 3, 2), CONTROLLER, b"C" * 32)
    assert Leaf.decode(leaf.encode()) == leaf


def test_codes_are_those_that_were_given_out() -> None:
    assert sorted(EVENT_CODES.values()) == list(range(1, len(EVENT_CODES) + 1))
    spelt = ",".join(f"{name}={code}" for name, code in EVENT_CODES.items())
    # a code that changes its meaning makes old ledgers lie: add types at the end, then this digest
    assert hashlib.sha256(spelt.encode()).hexdigest()[:16] == "a8c4dfcaa86ba990"


def test_what_is_no_leaf_is_refused() -> None:
    leaf = Leaf("listed", date(2026, 3, 2), CONTROLLER, b"C" * 32).encode()
    broken = [
        b"",
        leaf[:-1],
        leaf + b"\x00",
        b"\x00\x02" + leaf[2:],
        leaf[:2] + b"\x00\x00" + leaf[4:],
        leaf[:2] + b"\xff\xff" + leaf[4:],
        leaf[:4] + b"\xff\xff\xff\xff" + leaf[8:],
    ]
    for one in broken:
        with pytest.raises(IntegrityFailure):
            Leaf.decode(one)


@given(st.binary(min_size=LEAF_BYTES, max_size=LEAF_BYTES))
def test_every_leaf_has_one_spelling(data: bytes) -> None:
    leaf = b"\x00\x01\x00" + bytes([data[3] % 33 + 1]) + b"\x00\x00" + data[6:]
    assert Leaf.decode(leaf).encode() == leaf


def test_the_text_says_who_when_what_and_why_but_not_the_reason() -> None:
    event = listen(purpose="training", outcome="granted", facts={"number": 3})
    text = event_text(event, ENTRY, AT, name=b"\x02" * 32, narrative=b"\x01" * 32)
    expected = (
        '{"actor":{"company":"","id":"%s","kind":"person","roles":["auditor","dpo"],'
        '"subject":"%s"},"at":"2026-03-02T23:59:59.999Z","campaign":"%s","controller":"%s",'
        '"entry":"%s","facts":{"number":3},"narrative":"%s","outcome":"granted",'
        '"purpose":"training","recording":"%s","type":"listen-granted","v":1}'
    )
    assert text.decode() == expected % (
        ACTOR.id, "02" * 32, CAMPAIGN, CONTROLLER, ENTRY, "01" * 32, RECORDING,
    )  # fmt: skip
    assert b"motif" not in text


def test_commitments_are_salted_hashes_in_domains_of_their_own() -> None:
    salt = b"s" * 32
    assert (
        commit_text(salt, b"x")
        == hashlib.sha256(b"oubliette/ledger-entry/v1" + salt + b"x").digest()
    )
    assert (
        commit_narrative(salt, b"x")
        == hashlib.sha256(b"oubliette/narrative-text/v1" + salt + b"x").digest()
    )


def test_a_disclosure_opens_its_leaf_and_no_other() -> None:
    text = event_text(listen(None), ENTRY, AT, name=bytes(32), narrative=None)
    salt = b"s" * 32
    leaf = leaf_of(listen(None), AT, commit_text(salt, text))
    assert check_disclosure(leaf.encode(), salt, text)["recording"] == RECORDING
    other_controller = ids.from_bits("ctl_", b"x" * 16)
    wrong = [
        (leaf.encode(), b"t" * 32, text),
        (leaf.encode(), salt, text.replace(b"auditor", b"admin")),
        (replace(leaf, commitment=bytes(32)).encode(), salt, text),
        # the leaf's own bytes are committed to by its place in the tree; its text must agree too
        (replace(leaf, type="listen-denied").encode(), salt, text),
        (replace(leaf, day=date(2026, 3, 3)).encode(), salt, text),
        (replace(leaf, controller_id=other_controller).encode(), salt, text),
    ]
    for parts in wrong:
        with pytest.raises(IntegrityFailure):
            check_disclosure(*parts)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"{}", b"\xff", b'{"type":1,"at":2}'])
def test_a_committed_text_that_is_no_event_is_refused(text: bytes) -> None:
    leaf = leaf_of(listen(None), AT, commit_text(b"s" * 32, text)).encode()
    with pytest.raises(IntegrityFailure):
        check_disclosure(leaf, b"s" * 32, text)


def test_sealing_and_opening() -> None:
    sealed = sealer()
    row = sealed.seal(listen("un motif\n— forgé\x1b[2J"))
    assert b"motif" not in repr(row).encode()
    for value in row.row.values():
        assert not isinstance(value, bytes) or b"motif" not in value
    assert row.row["narrative_prefix"] == 3


def test_a_salt_is_drawn_for_every_entry() -> None:
    sealed = sealer()
    first, second = sealed.seal(listen(None)), sealed.seal(listen(None))
    assert first.entry.salt != second.entry.salt
    assert first.entry.leaf != second.entry.leaf


def test_a_dictionary_of_numbers_finds_nothing_in_a_leaf() -> None:
    number = "+33612345678"
    event = Event("search", ACTOR, CONTROLLER, CAMPAIGN, facts={"number": number})
    leaf = sealer().seal(event).entry.leaf
    text = event_text(event, ENTRY, AT, name=bytes(32), narrative=None)
    for guess in (number.encode(), text, b"oubliette/ledger-entry/v1" + text):
        assert hashlib.sha256(guess).digest() not in leaf
    unsalted = commit_text(bytes(32), text)
    assert unsalted not in leaf


MISTAKES: dict[str, Callable[[], Event]] = {
    "unknown type": lambda: Event("listened", ACTOR, CONTROLLER),
    "deposit without commitment": lambda: deposit(commitment=None),
    "deposit without digest": lambda: deposit(body_sha256=None),
    "short commitment": lambda: deposit(commitment=b"k" * 31),
    "digests of a listen": lambda: listen(None, commitment=b"k" * 32, body_sha256=b"b" * 32),
    "endless narrative": lambda: listen("x" * 2_001),
    # words about one recording must die with it, so its leaf must be named, and no other
    "no leaf named": lambda: Event(
        "hold-placed", ACTOR, CONTROLLER, CAMPAIGN, RECORDING, narrative="un motif"
    ),
    "leaf without words": lambda: Event(
        "hold-placed", ACTOR, CONTROLLER, narrative_subject=SUBJECT
    ),
    "leaf without recording": lambda: Event(
        "hold-placed", ACTOR, CONTROLLER, narrative="un motif", narrative_subject=SUBJECT
    ),
    "leaf of no recording": lambda: listen(narrative_subject=replace(SUBJECT, recording_id="")),
    "leaf in another tree": lambda: listen(
        narrative_subject=replace(SUBJECT, controller_id=LEDGER)
    ),
    "words about the dead": lambda: Event(
        "recording-shredded",
        ACTOR,
        CONTROLLER,
        CAMPAIGN,
        RECORDING,
        narrative="un motif",
        narrative_subject=SUBJECT,
    ),
    "words about a dead campaign": lambda: Event(
        "campaign-shredded", ACTOR, CONTROLLER, CAMPAIGN, narrative="un motif"
    ),
}


@pytest.mark.parametrize("mistake", sorted(MISTAKES))
def test_an_event_that_must_not_be_is_a_mistake_of_the_program(mistake: str) -> None:
    with pytest.raises(ValueError, match=r"event type|digests|narrative"):
        MISTAKES[mistake]()


def test_a_controller_that_is_no_id_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Event("listed", ACTOR, "not-an-id")


@pytest.mark.parametrize("subject", ["a\x9b2J", "a\u202eb", "a\x7f", "a\u2028b"])
def test_a_text_never_holds_what_a_terminal_obeys(subject: str) -> None:
    event = Event("listed", replace(ACTOR, subject=subject), CONTROLLER)
    with pytest.raises(InvalidRequest):
        event_text(event, ENTRY, AT, name=bytes(32), narrative=None)
    event = Event("listed", replace(ACTOR, company=subject), CONTROLLER)
    with pytest.raises(InvalidRequest):
        event_text(event, ENTRY, AT, name=bytes(32), narrative=None)
    escaped = Event("listed", replace(ACTOR, company="a\x1b\nb"), CONTROLLER)
    assert b"a\\u001b\\nb" in event_text(escaped, ENTRY, AT, name=bytes(32), narrative=None)


@pytest.mark.parametrize("facts", [{"share": 0.5}, {"huge": 2**60}, {"text": "x" * 300_000}])
def test_facts_that_have_no_one_spelling_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        event_text(
            Event("listed", ACTOR, CONTROLLER, facts=facts),
            ENTRY,
            AT,
            name=bytes(32),
            narrative=None,
        )


def test_a_narrative_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        sealer().seal(listen("un motif \ud800"))


@pytest.mark.parametrize(
    ("at", "month"),
    [
        (datetime(2020, 1, 1, tzinfo=UTC), 0),
        (datetime(2019, 12, 31, tzinfo=UTC), 0),
        (datetime(2026, 3, 31, 23, 59, tzinfo=UTC), 74),
        (datetime(2026, 4, 1, tzinfo=UTC), 75),
    ],
)
def test_months_count_from_january_2020_in_utc(at: datetime, month: int) -> None:
    assert month_of(at) == month


def test_the_service_itself_is_an_actor_that_no_token_names() -> None:
    actor = system_actor(CONTROLLER, "sweep")
    assert (actor.subject, actor.kind, actor.roles) == ("system:sweep", "service", frozenset())
    assert ids.to_bits(actor.id, "act_") == bytes(16)


def test_leaves_are_looked_at_together_as_one_by_one() -> None:
    good = leaf_bytes()
    assert first_malformed([]) is None
    assert first_malformed([good] * 256) is None
    for offset in range(8):
        for value in range(256):
            changed = good[:offset] + bytes([value]) + good[offset + 1 :]
            try:
                Leaf.decode(changed)
                expected = None
            except IntegrityFailure:
                expected = 2
            assert first_malformed([good, good, changed, good]) == expected, (offset, value)
    assert first_malformed([good, good[:-1]]) == 1


def leaf_bytes() -> bytes:
    return Leaf("listed", date(2026, 3, 2), CONTROLLER, bytes(32)).encode()
