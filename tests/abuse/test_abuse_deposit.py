"""What will be tried on the way in, against a real server: a clear answer each time, nothing kept.

One server for the whole module; the last test shows that it still takes deposits.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from tests.fakes.deposit_server import (
    MAX_BYTES,
    SAID,
    DepositServer,
    deposit_server,
    nothing_kept,
    refused,
    until,
)
from tests.fakes.deposits_client import Platform, call, form, form_part, read_answer

# --- the same key again ---


def test_a_replay_with_the_same_body_is_the_same_recording(
    pbx: Platform, server: DepositServer
) -> None:
    body = call()
    first, again = pbx.put("replay-0", body, said=SAID), pbx.put("replay-0", body)
    assert (first.status, again.status) == (201, 200)
    told = {**first.json, "receipt": ""}
    assert {**again.json, "receipt": ""} == told
    assert first.json["receipt"].startswith("oubliette deposit receipt v1\n")
    assert again.headers["location"] == f"/v1/recordings/{told['id']}"


def test_a_replay_with_another_body_is_refused_and_the_first_kept(
    pbx: Platform, server: DepositServer
) -> None:
    body = call()
    first = pbx.put("replay-1", body)
    with nothing_kept(server):
        for other in (call(pitch=11), body[:-2], body + bytes(2), b"<html>"):
            refused(pbx.put("replay-1", other), 409, "duplicate-deposit")
        assert pbx.put("replay-1", body).json["id"] == first.json["id"]


def test_probing_for_a_recording_tells_nothing_before_the_whole_was_sent(pbx: Platform) -> None:
    """A guess that fails at its first byte is answered no sooner than one that fails later."""
    body = call()
    pbx.put("replay-2", body)
    wrong = b"\xff" + body[1:]
    with pbx.connect() as wire:
        path = "/v1/campaigns/winter-sale/recordings/replay-2"
        wire.sendall(pbx.head("PUT", path, f"Content-Length: {len(body)}"))
        wire.sendall(wrong[:-1])
        wire.settimeout(0.3)
        with pytest.raises(TimeoutError):
            wire.recv(1)
        wire.settimeout(60)
        wire.sendall(wrong[-1:])
        refused(read_answer(wire), 409, "duplicate-deposit")


def test_two_uploads_of_one_id_at_once_are_one_recording(
    pbx: Platform, server: DepositServer
) -> None:
    body = call()
    path = "/v1/campaigns/winter-sale/recordings/twice-1"
    with pbx.connect() as first:
        first.sendall(pbx.head("PUT", path, f"Content-Length: {len(body)}") + body[:100])
        until(lambda: server.open_attempts() == 1)
        told = pbx.put("twice-1", body)
        refused(told, 409, "deposit-in-progress")
        assert told.headers["retry-after"]
        first.sendall(body[100:])
        assert read_answer(first).status == 201
    assert pbx.put("twice-1", body).status == 200


# --- lengths and digests ---


def digest_of(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


def test_a_digest_that_does_not_match_is_refused(pbx: Platform, server: DepositServer) -> None:
    body, parts = call(), form(SAID, call())
    wrong = digest_of(body[1:])
    with nothing_kept(server):
        refused(pbx.put("digest-1", body, Content_Digest=wrong), 422, "digest-mismatch")
        refused(pbx.put("digest-1", body, Content_Digest="sha-256=oops"), 400, "invalid-request")
        refused(pbx.post(parts, Content_Digest=digest_of(body)), 422, "digest-mismatch")
    assert pbx.put("digest-1", body, Content_Digest=digest_of(body)).status == 201
    assert pbx.post(parts, Content_Digest=digest_of(parts)).status == 201


def test_a_body_cut_short_of_its_length_leaves_an_abandoned_attempt(
    pbx: Platform, server: DepositServer
) -> None:
    with nothing_kept(server), pbx.connect() as wire:
        path = "/v1/campaigns/winter-sale/recordings/cut-1"
        wire.sendall(pbx.head("PUT", path, "Content-Length: 100000") + call()[:5_000])
        until(lambda: server.open_attempts() == 1)
    until(lambda: server.open_attempts() == 0)
    assert pbx.put("cut-1", call()).status == 201


@pytest.mark.usefixtures("kept_nothing")
def test_an_announced_length_above_the_limit_is_refused_before_it_is_sent(
    pbx: Platform, server: DepositServer
) -> None:
    with pbx.connect() as wire:
        path = "/v1/campaigns/winter-sale/recordings/large-1"
        wire.sendall(
            pbx.head("PUT", path, f"Content-Length: {MAX_BYTES + 1}", "Expect: 100-continue")
        )
        answer = read_answer(wire)
    refused(answer, 413, "recording-too-large")
    assert answer.headers["connection"] == "close"


@pytest.mark.usefixtures("kept_nothing")
def test_an_endless_chunked_body_is_cut_at_the_limit(pbx: Platform) -> None:
    with pbx.connect() as wire:
        path = "/v1/campaigns/winter-sale/recordings/endless-1"
        wire.sendall(
            pbx.head("PUT", path, "Content-Type: audio/PCMA", "Transfer-Encoding: chunked")
        )
        chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            wire.sendall(chunk * 1_000)


@pytest.mark.usefixtures("kept_nothing")
def test_the_refusal_of_a_large_body_reaches_a_sender_that_writes_first(pbx: Platform) -> None:
    answer = pbx.put("large-2", bytes(MAX_BYTES + 300_000), Content_Type="audio/PCMA")
    refused(answer, 413, "recording-too-large")


@pytest.mark.usefixtures("kept_nothing")
def test_a_refusal_is_not_overtaken_by_a_reset(pbx: Platform) -> None:
    with pbx.connect() as wire:
        path = "/v1/campaigns/no-such/recordings/refused-1"
        wire.sendall(pbx.head("PUT", path, "Content-Length: 100000") + bytes(1_000))
        answer = read_answer(wire)
        assert answer.headers["connection"] == "close"
        wire.settimeout(0.2)
        with pytest.raises(TimeoutError):  # the end would come here, and a reset after it
            wire.recv(1)
        wire.settimeout(60)
        wire.sendall(bytes(99_000))
        assert wire.recv(1) == b""
    assert answer.status == 404


def test_one_byte_at_a_time_is_cut_off(tmp_path: Path) -> None:
    with deposit_server(tmp_path, UPLOAD_IDLE_S="1") as hasty:
        with nothing_kept(hasty), hasty.pbx.connect() as wire:
            path = "/v1/campaigns/winter-sale/recordings/slow-1"
            wire.sendall(hasty.pbx.head("PUT", path, "Content-Length: 100000") + call()[:1_000])
            answer = read_answer(wire)
        refused(answer, 408, "upload-too-slow")
        assert hasty.open_attempts() == 0


# --- bodies that are not what they say ---


def test_a_compressed_body_is_refused(pbx: Platform, server: DepositServer) -> None:
    parts = form(SAID, call())
    with nothing_kept(server):
        for encoding in ("gzip", "br", "identity, gzip"):
            answer = pbx.put("packed-1", bytes(100), Content_Encoding=encoding)
            refused(answer, 415, "unsupported-audio")
        refused(pbx.post(parts, Content_Encoding="gzip"), 415, "unsupported-audio")
    assert pbx.put("packed-2", call(), Content_Encoding="identity").status == 201


@pytest.mark.usefixtures("kept_nothing")
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"\n  <svg xmlns='http://www.w3.org/2000/svg'/>",
        b"PK\x03\x04" + bytes(500),
        b"MZ" + bytes(58) + b"\x40\0\0\0PE\0\0" + bytes(500),
        b"\x7fELF" + bytes(500),
    ],
    ids=["nothing", "HTML", "SVG", "ZIP", "Windows program", "Linux program"],
)
def test_what_poses_as_audio_is_refused(pbx: Platform, server: DepositServer, body: bytes) -> None:
    before = server.refusals()
    refused(pbx.put("posing-1", body, Content_Type="audio/mpeg"), 415, "unsupported-audio")
    refused(pbx.post(form(SAID, body)), 415, "unsupported-audio")
    assert server.refusals() == before + 2


def test_a_header_that_claims_10_12_samples_is_kept_and_called_odd(pbx: Platform) -> None:
    body = bytearray(call())
    body[4:8] = body[40:44] = b"\xff\xff\xff\xff"
    answer = pbx.put("claims-1", bytes(body))
    assert answer.status == 201
    assert answer.json["duration_ms"] == 1_000
    assert set(answer.json["oddities"]) & {"length-clamped", "riff-length-missing"}


# --- metadata ---


@pytest.mark.usefixtures("kept_nothing")
@pytest.mark.parametrize(
    "said",
    [
        b'{"agent":"a\\u0000b"}',
        b'{"agent":"\\ud800"}',
        b'{"agent":"a\\u202eb"}',
        b'{"agent":"' + b"x" * 2_500 + b'"}',
        b"[" * 2_900,
        b'{"a":' * 580,
        b'{"agent":"a","agent":"b"}',
        b'{"channels":NaN}',
        b'{"channels":1e400}',
        b'{"channels":' + b"9" * 401 + b"}",
        b'{"is_admin":true}',
        b'{"external_id":"other"}',
        b"\xff\xfe",
    ],
)
def test_hostile_metadata_is_refused_whole(pbx: Platform, said: bytes) -> None:
    for answer in (pbx.put("said-1", call(), said=said), pbx.post(form(said, call()))):
        refused(answer, 422, "metadata-invalid")
        assert b"other" not in answer.body


@pytest.mark.usefixtures("kept_nothing")
@pytest.mark.parametrize("field", ["not base64!", "e30=e30", "e31"])
def test_a_metadata_field_that_is_no_base64url_is_refused(pbx: Platform, field: str) -> None:
    refused(pbx.put("said-2", call(), Oubliette_Metadata=field), 422, "metadata-invalid")


@pytest.mark.usefixtures("kept_nothing")
def test_metadata_of_a_megabyte_is_refused_wherever_it_stands(pbx: Platform) -> None:
    said = b'{"agent":"' + b"x" * 1_000_000 + b'"}'
    refused(pbx.post(form(said, call())), 422, "metadata-invalid")
    refused(pbx.put("said-3", call(), said=said[:9_000]), 422, "metadata-invalid")


# --- ids and addresses ---


@pytest.mark.usefixtures("kept_nothing")
@pytest.mark.parametrize(
    ("spelling", "status", "code"),
    [
        ("..%2f..%2fetc%2fpasswd", 422, "metadata-invalid"),
        ("%2e%2e%2f%2e%2e%2fx", 422, "metadata-invalid"),
        ("a%2f%2e%2e", 422, "metadata-invalid"),
        ("a%00b", 422, "metadata-invalid"),
        ("a%0d%0aX-Evil:1", 404, "route-not-found"),
        ("%ff%fe", 400, "invalid-request"),
        ("%ed%a0%80", 400, "invalid-request"),
        ("x" * 201, 422, "metadata-invalid"),
        ("x" * 4_096, 422, "metadata-invalid"),
        ("", 422, "metadata-invalid"),
    ],
)
def test_ids_that_cannot_be_are_refused(
    pbx: Platform, spelling: str, status: int, code: str
) -> None:
    refused(pbx.put(spelling, call()), status, code)


def test_an_id_is_the_same_however_its_address_is_spelt(pbx: Platform) -> None:
    body = call()
    assert pbx.put("out%2F1.wav", body).status == 201
    assert pbx.put("out/1%2Ewav", body).status == 200
    assert pbx.put("OUT%2F1.wav", body).status == 201


# --- forms ---


@pytest.mark.usefixtures("kept_nothing")
def test_forms_in_another_order_or_of_other_parts_are_refused(
    pbx: Platform, server: DepositServer
) -> None:
    before = server.refusals()
    metadata, audio, end = (
        form_part("metadata", SAID),
        form_part("audio", call()),
        b"--b0undary--\r\n",
    )
    for parts in (audio + metadata + end, metadata + end, metadata + audio + audio + end):
        refused(pbx.post(parts), 422, "metadata-first")
    assert server.refusals() == before + 3
    refused(pbx.post(metadata + audio), 400, "invalid-request")
    refused(pbx.post(b"\r\n" + bytes(70_000)), 400, "invalid-request")
    refused(pbx.post(b"", Content_Type="audio/wav"), 415, "unsupported-media-type")


def test_a_form_is_a_deposit(pbx: Platform, server: DepositServer) -> None:
    answer = pbx.post(form(SAID, call(), file_name="Zo\u00e9.wav"))
    assert answer.status == 201
    view = server.made.service.catalogue.get(server.made.actor("dpo"), answer.json["id"])
    assert (view.agent, view.contact) == ("Zoe Martin", "\u2022\u2022\u2022\u202278")
    assert view.codec == "pcm16"
