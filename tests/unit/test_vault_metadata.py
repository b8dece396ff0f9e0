from __future__ import annotations

import dataclasses
import json
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.errors import IntegrityFailure
from vault.errors import MetadataInvalid
from vault.metadata import (
    CANONICAL_MAX_BYTES,
    RAW_MAX_BYTES,
    Metadata,
    from_canonical,
    parse,
    tidy_file_name,
    to_canonical,
)

FULL = {
    "started_at": "2026-03-02T10:30:15.123+01:00",
    "direction": "outbound",
    "agent": "Zoé",
    "contact_number": "06 12 34 56 78",
    "contact_reference": "client 17",
    "channels": ["agent", "contact"],
    "consent": "given",
    "notice": "played",
    "free": {"dossier": "A-17", "équipe": "Lyon"},
}
TEXT_FIELDS = ("agent", "contact_number", "contact_reference")


def raw(members: Any) -> bytes:
    return json.dumps(members).encode()


def refused(body: bytes) -> dict[str, Any]:
    with pytest.raises(MetadataInvalid) as raised:
        parse(body)
    return dict(raised.value.facts)


def test_everything_that_may_be_said() -> None:
    assert parse(raw(FULL)) == Metadata(
        started_at=datetime(2026, 3, 2, 9, 30, 15, 123000, tzinfo=UTC),
        direction="outbound",
        agent="Zoé",
        contact_number="06 12 34 56 78",
        contact_reference="client 17",
        channels=("agent", "contact"),
        consent="given",
        notice="played",
        free=(("dossier", "A-17"), ("équipe", "Lyon")),
    )


@pytest.mark.parametrize("body", [b"", b"{}", raw(dict.fromkeys(FULL))])
def test_nothing_said_is_empty_metadata(body: bytes) -> None:
    assert parse(body) == Metadata()
    assert to_canonical(parse(body)) == b"{}"


def test_the_canonical_form_is_sorted_and_leaves_out_what_is_absent() -> None:
    said = dataclasses.replace(parse(raw(FULL)), external_id="call-1", file_name="appel.wav")
    encoded = to_canonical(said)
    assert encoded.decode() == (
        '{"agent":"Zoé","channels":["agent","contact"],"consent":"given",'
        '"contact_number":"06 12 34 56 78","contact_reference":"client 17","direction":"outbound",'
        '"external_id":"call-1","file_name":"appel.wav",'
        '"free":{"dossier":"A-17","équipe":"Lyon"},"notice":"played",'
        '"started_at":"2026-03-02T09:30:15.123Z"}'
    )
    assert from_canonical(encoded) == said
    assert to_canonical(Metadata(direction="inbound")) == b'{"direction":"inbound"}'


# everything but what is refused: controls, surrogates, line separators, bidi controls
texts: st.SearchStrategy[str] = st.text(
    st.characters(
        exclude_categories=("Cc", "Cs", "Cn", "Zl", "Zp"),
        exclude_characters="\ufeff\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e"
        "\u2066\u2067\u2068\u2069",
    ),
    max_size=40,
)


@given(
    agent=texts,
    number=texts,
    free=st.dictionaries(st.text("abcxyz é", min_size=1, max_size=20), texts, max_size=4),
    started=st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2100, 1, 1)),  # noqa: DTZ001
)
def test_what_is_parsed_comes_back_from_its_canonical_form(
    agent: str, number: str, free: dict[str, str], started: datetime
) -> None:
    said = {"agent": agent, "contact_number": number, "started_at": started.isoformat()[:19] + "Z"}
    parsed = parse(raw({**said, "free": free}))
    assert parsed.agent == (unicodedata.normalize("NFC", agent) or None)
    assert from_canonical(to_canonical(parsed)) == parsed
    assert len(to_canonical(parsed)) <= CANONICAL_MAX_BYTES


def test_texts_are_brought_to_nfc() -> None:
    parsed = parse(raw({"agent": "Zoe\u0301", "free": {"e\u0301quipe": "Ame\u0301lie"}}))
    assert parsed.agent == "Zoé"
    assert parsed.free == (("équipe", "Amélie"),)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"{", "not-json"),
        (b'{"agent":"a"} x', "not-json"),
        (b"\xff{}", "not-json"),
        (b"\xef\xbb\xbf{}", "not-json"),
        (b'{"agent":"\xed\xa0\x80"}', "not-json"),
        ("{}".encode("utf-16"), "not-json"),
        (b'{"agent":"a\nb"}', "not-json"),
        (b"{'agent':'a'}", "not-json"),
        (b'{"agent":"a",}', "not-json"),
        (b"[]", "not-an-object"),
        (b'"agent"', "not-an-object"),
        (b"null", "not-an-object"),
        (b'{"agent":"a","agent":"a"}', "duplicate-name"),
        (b'{"agent":"a","ag\\u0065nt":"a"}', "duplicate-name"),
        (b'{"free":{"a":"1","a":"2"}}', "duplicate-name"),
        (b'{"agent":NaN}', "number"),
        (b'{"agent":Infinity}', "number"),
        (b'{"agent":-Infinity}', "number"),
        (b'{"agent":1}', "number"),
        (b'{"agent":1e400}', "number"),
        (b'{"agent":1' + b"0" * 400 + b"}", "number"),
        (b'{"agent":' + b"1" * 9000 + b"}", "number"),
        (b"[" * 10_000, "not-json"),
        (b'{"free":' * 100 + b"1" + b"}" * 100, "number"),
        (b'{"free":' * 5_000, "too-large"),
        (b'{"x":"y"}', "unknown-name"),
        (b'{"external_id":"y"}', "unknown-name"),
        (b'{"file_name":"y"}', "unknown-name"),
        (b'{"evidence":"y"}', "unknown-name"),
        (b'{"":"y"}', "unknown-name"),
        (b'{"agent":"' + b"a" * RAW_MAX_BYTES + b'"}', "too-large"),
        (b'{"agent":"' + b"a" * 1_000_000 + b'"}', "too-large"),
    ],
)
def test_json_that_is_refused_whole(body: bytes, what: str) -> None:
    facts = refused(body)
    assert facts["what"] == what
    assert "field" not in facts


@pytest.mark.parametrize("field", TEXT_FIELDS)
@pytest.mark.parametrize(
    ("value", "what"),
    [
        (True, "not-text"),
        ([], "not-text"),
        ({}, "not-text"),
        ("a" * 257, "too-long"),
        ("\u0958" * 200, "too-long"),  # NFC makes two characters of each
        ("a\x00b", "characters"),
        ("a\nb", "characters"),
        ("a\x1b[2Jb", "characters"),
        ("a\x7fb", "characters"),
        ("a\x85b", "characters"),
        ("a\u2028b", "characters"),
        ("a\u202eb", "characters"),
        ("a\u2066b", "characters"),
        ("a\u200fb", "characters"),
        ("a\u061cb", "characters"),
        ("a\ufeffb", "characters"),
        ("a\ud800b", "characters"),
        ("\udfff", "characters"),
    ],
)
def test_a_text_that_is_refused(field: str, value: Any, what: str) -> None:
    facts = refused(raw({field: value}))
    assert (facts["field"], facts["what"]) == (field, what)
    assert set(facts) <= {"field", "what", "max_characters"}


def test_a_text_of_the_full_length_is_kept() -> None:
    assert parse(raw({"agent": "é" * 256})).agent == "é" * 256
    assert parse(raw({"agent": "👩‍🔧 Zoé"})).agent == "👩‍🔧 Zoé"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("direction", "sideways"),
        ("direction", "INBOUND"),
        ("consent", "yes"),
        ("consent", True),
        ("notice", []),
        ("notice", "given"),
        ("channels", "agent"),
        ("channels", ["agent", "customer"]),
        ("channels", [["agent"]]),
        ("channels", [None]),
        ("channels", ["agent"] * 9),
        ("free", []),
        ("free", {str(number): "" for number in range(17)}),
        ("free", {"": "x"}),
        ("free", {"a" * 41: "x"}),
        ("free", {"a": "x" * 257}),
        ("free", {"a": {"b": "c"}}),
        ("free", {"a": None}),
        ("free", {"\u202ea": "x"}),
        ("free", {"é": "x", "e\u0301": "y"}),
        ("started_at", True),
        ("started_at", ""),
        ("started_at", "2026-03-02"),
        ("started_at", "2026-03-02T10:30:00"),
        ("started_at", "2026-03-02T10:30Z"),
        ("started_at", "2026-02-30T10:30:00Z"),
        ("started_at", "2026-03-02T24:30:00Z"),
        ("started_at", "2026-03-02T10:30:60Z"),
        ("started_at", "2026-03-02T10:30:00+25:00"),
        ("started_at", "2026-W10-1T10:30:00Z"),
        ("started_at", "1772443800"),
        ("started_at", "0001-01-01T00:00:00+23:59"),
        ("started_at", "1969-12-31T23:59:59Z"),
        ("started_at", "1970-01-01T00:00:00+00:01"),
        ("started_at", "9999-12-31T23:59:59-23:59"),
        ("started_at", "2026-03-02T10:30:00Z\n"),
        ("started_at", "٢٠٢٦-03-02T10:30:00Z"),
        ("started_at", "2026-03-02T10:30:00.Z"),
    ],
)
def test_a_value_that_is_refused(field: str, value: Any) -> None:
    assert refused(raw({field: value}))["field"] == field


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-03-02T10:30:00Z", datetime(2026, 3, 2, 10, 30, tzinfo=UTC)),
        ("2026-03-02t10:30:00z", datetime(2026, 3, 2, 10, 30, tzinfo=UTC)),
        ("2026-03-02 10:30:00+00:00", datetime(2026, 3, 2, 10, 30, tzinfo=UTC)),
        ("2026-03-02T10:30:00.5Z", datetime(2026, 3, 2, 10, 30, 0, 500_000, tzinfo=UTC)),
        ("2026-03-02T10:30:00.123456789Z", datetime(2026, 3, 2, 10, 30, 0, 123_000, tzinfo=UTC)),
        ("2026-03-01T23:30:00-11:00", datetime(2026, 3, 2, 10, 30, tzinfo=UTC)),
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("2024-02-29T12:00:00Z", datetime(2024, 2, 29, 12, tzinfo=UTC)),
    ],
)
def test_instants_become_utc(text: str, instant: datetime) -> None:
    parsed = parse(raw({"started_at": text}))
    assert parsed.started_at == instant
    assert from_canonical(to_canonical(parsed)).started_at == instant


def test_no_refusal_repeats_what_was_said() -> None:
    secret = "0612345678-Zoé-Dupont"  # a person's words
    bodies = [
        raw({secret: "x"}),
        raw({"agent": secret + "\x00"}),
        raw({"agent": [secret]}),
        raw({"direction": secret}),
        raw({"channels": [secret]}),
        raw({"started_at": secret}),
        raw({"free": {secret: 1}}),
        raw({"free": {secret + "\u202e": "x"}}),
        raw({"free": {"a": secret * 20}}),
        raw({"agent": secret})[:-2],
    ]
    for body in bodies:
        with pytest.raises(MetadataInvalid) as raised:
            parse(body)
        shown = str(raised.value) + repr(raised.value) + repr(raised.value.facts)
        for part in ("0612345678", "Zo", "Dupont"):
            assert part not in shown
    assert secret not in repr(parse(raw({"agent": secret})))


def test_together_it_must_fit_2_048_bytes() -> None:
    free = {f"name-{number}": "x" * 120 for number in range(15)}
    fits = {"free": free, "agent": ""}
    room = CANONICAL_MAX_BYTES - len(to_canonical(parse(raw(fits)))) - len('"agent":"",')
    assert 0 < room < 256
    fits["agent"] = "a" * room
    assert len(to_canonical(parse(raw(fits)))) == CANONICAL_MAX_BYTES
    fits["agent"] = "a" * (room + 1)
    assert refused(raw(fits))["what"] == "too-large"
    fits["agent"] = "é" * (room // 2 + 1)
    assert refused(raw(fits))["what"] == "too-large"


@pytest.mark.parametrize("external_id", ["", "x" * 201, "é" * 101, "a\x00", "a\nb", "a\u202eb"])
def test_an_external_id_that_cannot_be_sealed(external_id: str) -> None:
    with pytest.raises(MetadataInvalid) as raised:
        to_canonical(Metadata(external_id=external_id))
    assert raised.value.facts["field"] == "external_id"


@pytest.mark.parametrize("external_id", ["x", "é" * 100, "../../etc", "a%2e%2e%2fb", "1a 😀"])
def test_an_external_id_is_kept_as_it_is(external_id: str) -> None:
    said = Metadata(external_id=external_id)
    assert from_canonical(to_canonical(said)).external_id == external_id


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'"x"',
        b"{",
        b'{"unknown":"x"}',
        b'{"free":[]}',
        b'{"started_at":1}',
        b'{"started_at":"x"}',
        b'{"channels":1}',
    ],
)
def test_sealed_bytes_of_another_form_are_an_integrity_failure(body: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        from_canonical(body)


@given(st.binary(max_size=200))
@example(b'{"agent":"\\ud800\\udc00"}')
@example(b'{"agent":"\\udc00\\ud800"}')
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    refusal: dict[str, object] = {"what": ""}
    try:
        to_canonical(parse(body))
    except MetadataInvalid as error:
        refusal = dict(error.facts)
    assert "what" in refusal
    assert set(refusal) <= {"what", "field", "allowed", "max_bytes", "max_characters", "max_fields"}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("appel.wav", "appel.wav"),
        ("../../etc/passwd", "passwd"),
        (r"C:\calls\0612345678.wav", "0612345678.wav"),
        ("a\x00b\u202e\r\n.wav", "ab.wav"),
        ("e\u0301.wav", "é.wav"),
        ("x" * 500, "x" * 120),
        ("  a  ", "a"),
        ("calls/", None),
        ("\x00", None),
        ("", None),
        ("a\ud800.wav", "a.wav"),
    ],
)
def test_a_file_name_is_tidied_never_refused(name: str, kept: str | None) -> None:
    assert tidy_file_name(name) == kept
    to_canonical(Metadata(file_name=kept))
