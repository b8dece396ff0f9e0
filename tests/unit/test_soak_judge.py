"""The judge of the soak: good evidence passes, and whatever can be wrong is found by name."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

import pytest

from tests.soak.calls import LONG, MIB, Allowance, Call
from tests.soak.door import Answer, is_designed
from tests.soak.judge import LATE_S, PIECE_BYTES, Found, judge, line
from tests.soak.told import Deposit, Heard, Told

LIVES, ERASED, ENDED = "rec_lives", "rec_erased", "rec_ended"
DONE_S = 100.0


def deposit(recording_id: str, *, short: bool = False) -> Deposit:
    return Deposit(
        recording_id=recording_id,
        external_id=f"call-{recording_id}",
        call=1,
        size=3_000,
        sha256=f"sha of {recording_id}",
        leaf_hash=f"leaf of {recording_id}",
        short=short,
        at_s=10.0,
    )


def heard(recording_id: str, count: int, *, began_s: float, last_s: float) -> Heard:
    return Heard(
        entry_id=f"ent of {recording_id}",
        leaf_hash=f"listen of {recording_id}",
        recording_id=recording_id,
        count=count,
        began_s=began_s,
        last_s=last_s,
        marks=((began_s, 1), (last_s, count)),
    )


def told() -> Told:
    """Return what callers of a good run were told."""
    made = Told()
    for one in (deposit(LIVES), deposit(ERASED), deposit(ENDED, short=True)):
        made.deposited(one)
    made.ordered |= {ERASED, ENDED}
    made.erased |= {ERASED: DONE_S, ENDED: DONE_S}
    made.erasures["era_1"] = [ERASED]
    made.certificates["era_1"] = "signed"
    made.grants["ent of rec_lives"] = "listen of rec_lives"
    made.heard.append(heard(LIVES, 3_000, began_s=20, last_s=21))
    made.heard.append(heard(ERASED, 3_000, began_s=20, last_s=21))
    made.searches, made.probes = 1, 1
    made.faults["kill -9"] = 1
    return made


def found() -> Found:
    """Return what is there after a good run."""
    leaves = {f"{kind} of {one}" for kind in ("leaf", "listen") for one in (LIVES, ERASED, ENDED)}
    return Found(
        plays={LIVES: "sha of rec_lives"},
        resent={"call-rec_lives": LIVES},
        on_replicas={(0, ERASED): "recording-erased"},
        leaves=frozenset(leaves),
        ledger="",
        verify="",
        certificates={"era_1": ""},
        opened=frozenset({LIVES}),
        kept=frozenset({LIVES, ERASED}),
        waiting={"attempts open": 0},
        memory=[(180.0, 220.0)],
        kinds=frozenset({"kill -9"}),
    )


def test_good_evidence_has_no_finding_and_its_one_line_says_so() -> None:
    findings = judge(told(), found())
    assert findings == []
    assert line(told(), findings) == (
        "soak: 3 deposits acknowledged, 0 lost; 2 listens, 0 unrecorded; 2 erased, 0 served; "
        "ledger verified"
    )


# what is changed in what is there, and the finding that it must make
THERE: dict[str, tuple[Callable[[Found], Found], str, str]] = {
    "a recording that is gone": (
        lambda one: dataclasses.replace(one, plays={LIVES: "recording-not-found"}),
        "lost",
        "rec_lives: recording-not-found",
    ),
    "a recording nobody asked for": (
        lambda one: dataclasses.replace(one, plays={}),
        "lost",
        "not asked",
    ),
    "other audio": (
        lambda one: dataclasses.replace(one, plays={LIVES: "sha of another"}),
        "lost",
        "sha of another",
    ),
    "a deposit whose entry is missing": (
        lambda one: dataclasses.replace(one, leaves=one.leaves - {"leaf of rec_erased"}),
        "lost",
        "rec_erased: its entry",
    ),
    "a resend with another id": (
        lambda one: dataclasses.replace(one, resent={"call-rec_lives": "rec_second"}),
        "lost",
        "sent again, rec_second",
    ),
    "a listen without an entry": (
        lambda one: dataclasses.replace(one, leaves=one.leaves - {"listen of rec_erased"}),
        "unrecorded",
        "ent of rec_erased",
    ),
    "a replica that serves what is erased": (
        lambda one: dataclasses.replace(one, on_replicas={(2, ERASED): "granted"}),
        "served",
        "rec_erased: granted from replica 2",
    ),
    "an erased recording that opens": (
        lambda one: dataclasses.replace(one, opened=frozenset({LIVES, ERASED})),
        "opened",
        "rec_erased",
    ),
    "a stranger who opens nothing at all": (
        lambda one: dataclasses.replace(one, opened=frozenset()),
        "opened",
        "not even what lives",
    ),
    "a stranger who kept nothing": (
        lambda one: dataclasses.replace(one, kept=frozenset()),
        "opened",
        "nothing was kept",
    ),
    "a tree that does not add up": (
        lambda one: dataclasses.replace(one, ledger="AssertionError: "),
        "ledger",
        "stranger",
    ),
    "a verification that fails": (
        lambda one: dataclasses.replace(one, verify="leaf 3"),
        "ledger",
        "oubliette verify: leaf 3",
    ),
    "a certificate that did not come": (
        lambda one: dataclasses.replace(one, certificates={}),
        "certificate",
        "era_1: none came",
    ),
    "a certificate that is false": (
        lambda one: dataclasses.replace(one, certificates={"era_1": "signature"}),
        "certificate",
        "era_1: signature",
    ),
    "an attempt that is left": (
        lambda one: dataclasses.replace(one, waiting={"attempts open": 2}),
        "waiting",
        "2 attempts open",
    ),
    "memory that grows": (
        lambda one: dataclasses.replace(one, memory=[(180.0, 520.0)]),
        "memory",
        "replica 0",
    ),
    "a fault that never happened": (
        lambda one: dataclasses.replace(one, kinds=one.kinds | {"stop"}),
        "faults",
        "stop",
    ),
}


@pytest.mark.parametrize("what", THERE)
def test_what_is_not_there_as_promised_is_found(what: str) -> None:
    change, name, words = THERE[what]
    findings = judge(told(), change(found()))
    assert [one.name for one in findings] == [name]
    assert words in findings[0].what
    assert line(told(), findings) != line(told(), [])


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(heard(ERASED, 1, began_s=DONE_S + 0.1, last_s=DONE_S + 0.1), id="one byte"),
        pytest.param(
            heard(ERASED, PIECE_BYTES + 2, began_s=20, last_s=DONE_S + LATE_S + 1), id="long after"
        ),
    ],
)
def test_bytes_after_an_erasure_are_served(one: Heard) -> None:
    evidence = told()
    evidence.heard.append(one)
    findings = judge(evidence, found())
    assert [one.name for one in findings] == ["served"]
    assert "2 erased, 1 served" in line(evidence, findings)


@pytest.mark.parametrize(
    "one",
    [
        pytest.param(heard(ERASED, 3_000, began_s=20, last_s=DONE_S - 1), id="before"),
        pytest.param(
            heard(ERASED, PIECE_BYTES, began_s=20, last_s=DONE_S + 30), id="the piece in hand"
        ),
    ],
)
def test_bytes_that_were_sent_before_it_are_not(one: Heard) -> None:
    evidence = told()
    evidence.heard.append(one)
    assert judge(evidence, found()) == []


def test_a_listen_that_was_granted_and_not_heard_still_wants_its_entry() -> None:
    evidence = told()
    evidence.grants["ent_unheard"] = "leaf that is nowhere"
    findings = judge(evidence, found())
    assert [one.name for one in findings] == ["ledger"]
    assert "ledger NOT verified" in line(evidence, findings)


def test_a_load_that_did_nothing_proves_nothing() -> None:
    nothing = dataclasses.replace(found(), resent={})
    assert {one.name for one in judge(Told(), nothing)} == {"load", "faults"}


def test_two_ids_for_one_call_are_found_at_once() -> None:
    evidence = told()
    evidence.deposited(dataclasses.replace(deposit(LIVES), recording_id="rec_second"))
    findings = judge(evidence, found())
    assert [one.name for one in findings] == ["refused"]
    assert "two ids" in findings[0].what


RETRY = {"retry-after": "5"}


@pytest.mark.parametrize(
    ("kind", "answer", "allowed"),
    [
        ("deposit", Answer(0), True),
        ("deposit", Answer(503, RETRY, b'{"code": "not-ready"}'), True),
        ("deposit", Answer(503, {}, b'{"code": "not-ready"}'), False),
        ("deposit", Answer(500, RETRY, b'{"code": "internal-failure"}'), False),
        ("deposit", Answer(409, {}, b'{"code": "deposit-in-progress"}'), True),
        ("deposit", Answer(409, {}, b'{"code": "duplicate-deposit"}'), False),
        ("listen", Answer(410, {}, b'{"code": "recording-erased"}'), True),
        ("listen", Answer(404, {}, b'{"code": "recording-not-found"}'), False),
        ("listen", Answer(502, {}, b"<center>nginx</center>"), True),
        ("listen", Answer(503, {}, b"<center>nginx</center>"), False),
        ("listen", Answer(502, {}, b"Bad Gateway"), False),
        ("search", Answer(429, RETRY, b'{"code": "rate-limited"}'), False),
    ],
)
def test_only_designed_refusals_pass(kind: str, answer: Answer, *, allowed: bool) -> None:
    assert is_designed(kind, answer) == allowed


def test_a_call_is_the_same_whenever_it_is_made_again() -> None:
    assert Call(7, 3_000).body == Call(7, 3_000).body
    assert Call(7, 3_000).sha256 != Call(8, 3_000).sha256
    assert len(Call(7, 20_001).body) == 20_001


def test_the_load_stays_within_the_bytes_it_may_store() -> None:
    allowance, dice = Allowance(each_s=1.0 * MIB), random.Random(1)
    sizes = [allowance.choose(dice, now_s=float(second)) for second in range(600)]
    assert sum(sizes) <= 650 * MIB
    assert max(sizes) in LONG
