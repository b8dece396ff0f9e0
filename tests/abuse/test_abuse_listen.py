"""What will be tried on a granted listen over HTTP, each ending in a clear answer."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
import sqlalchemy as sa

from api import streaming
from tests.fakes.listening_room import CAMPAIGN, REASON, Room, open_room, wav
from tests.fakes.still_time import within_one_minute
from tests.fakes.waiting import eventually
from vault.tables import ledger_entries, listens

BODY = wav(20)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    folder = tmp_path_factory.mktemp("listen")
    with open_room(folder, BODY) as opened:
        object.__setattr__(opened.made.service.listen_rate, "a_minute", 1_000)
        yield opened


def address(room: Room) -> str:
    granted = room.grant()
    assert granted.status_code == 201, granted.text
    url: str = granted.json()["audio_url"]
    return url


def get(room: Room, url: str, **headers: str) -> httpx2.Response:
    with room.client() as anyone:
        return anyone.get(url, headers={name.replace("_", "-"): v for name, v in headers.items()})


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        ("bytes=0-0", 206, 0, 0),
        ("bytes=-1", 206, len(BODY) - 1, len(BODY) - 1),
        ("bytes=16383-16385", 206, 16_383, 16_385),
        ("bytes=5-", 206, 5, len(BODY) - 1),
        ("bytes=0-1,5-6", 200, 0, len(BODY) - 1),
        ("bytes=9-3", 200, 0, len(BODY) - 1),
        ("pages=1-2", 200, 0, len(BODY) - 1),
        ("bytes=" + ",".join("1-2" for _ in range(1000)), 200, 0, len(BODY) - 1),
    ],
)
def test_range(room: Room, asked: str, status: int, first: int, last: int) -> None:
    answer = get(room, address(room), Range=asked)
    assert answer.status_code == status
    assert answer.content == BODY[first : last + 1]
    shown = answer.headers.get("content-range")
    assert shown == (f"bytes {first}-{last}/{len(BODY)}" if status == 206 else None)


@pytest.mark.parametrize("asked", [f"bytes={len(BODY)}-", "bytes=-0", "bytes=" + "9" * 30 + "-"])
def test_range_past_the_end(room: Room, asked: str) -> None:
    answer = get(room, address(room), Range=asked)
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(BODY)}"
    assert answer.json()["code"] == "range-not-satisfiable"


def test_if_range_mismatch_is_answered_whole(room: Room) -> None:
    url = address(room)
    etag = get(room, url).headers["etag"]
    same = get(room, url, Range="bytes=1-2", If_Range=etag)
    other = get(room, url, Range="bytes=1-2", If_Range='"another"')
    assert (same.status_code, other.status_code) == (206, 200)


def test_nothing_may_store_sniff_or_buffer_the_sound(room: Room) -> None:
    headers = get(room, address(room)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-accel-buffering"] == "no"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-type"] == "audio/wav"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert "attachment" not in headers["content-disposition"]


def entries(room: Room) -> int:
    with room.made.service.ports.database.read() as connection:
        query = sa.select(sa.func.count()).select_from(ledger_entries)
        return int(connection.execute(query).scalar_one())


def test_head_has_the_length_costs_nothing_and_leaves_no_entry(room: Room) -> None:
    granted = room.grant().json()
    before = entries(room)
    with room.client() as anyone:
        head = anyone.head(granted["audio_url"])
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(BODY))
    assert head.headers["accept-ranges"] == "bytes"
    with room.made.service.ports.database.read() as connection:
        sent = connection.execute(
            listens.select()
            .with_only_columns(listens.c.bytes_sent)
            .where(listens.c.id == granted["id"])
        ).scalar_one()
    assert sent == 0
    assert entries(room) == before


def test_the_listen_id_alone_opens_nothing(room: Room) -> None:
    url = address(room)
    bare = get(room, url.partition("?")[0])
    other = get(room, url[:-4] + "AAAA")
    assert [bare.status_code, other.status_code] == [410, 410]
    assert bare.json() == other.json()


def test_a_playback_url_without_its_cookie_and_from_another_session(room: Room) -> None:
    mine, theirs = room.grant(browser=True), room.grant(browser=True)
    url = mine.json()["audio_url"]
    name, _, rest = mine.headers["set-cookie"].partition("=")
    assert name == f"__Host-oubliette-{mine.json()['id']}"
    flags = rest.lower()
    assert all(flag in flags for flag in ("httponly", "secure", "samesite=strict", "path=/"))
    value = rest.partition(";")[0]
    stolen = theirs.headers["set-cookie"].partition("=")[2].partition(";")[0]
    assert get(room, url, Cookie=f"{name}={value}").content == BODY
    assert get(room, url).status_code == 410
    assert get(room, url, Cookie=f"{name}={stolen}").status_code == 410


@pytest.mark.parametrize("reason", ["", " ", "because", "a reason\nwith two lines", "x" * 501])
def test_a_listen_with_no_reason_a_blank_one_or_one_that_means_nothing(
    room: Room, reason: str
) -> None:
    answer = room.grant(reason=reason)
    assert answer.status_code == 422
    assert answer.json()["code"] == "reason-required"
    assert reason.strip() == "" or reason not in answer.text


def test_a_service_token_never_listens(room: Room) -> None:
    with room.client("quality-manager", service=True) as machine:
        answer = machine.post(
            f"/v1/recordings/{room.recording_id}/listens",
            json={"purpose": "quality-control", "reason": REASON},
        )
    assert (answer.status_code, answer.json()["why"]) == (403, "service")


def test_a_ticket_ended_by_its_owner_plays_no_more(room: Room) -> None:
    granted = room.grant().json()
    with room.client("quality-manager") as manager:
        assert manager.delete(f"/v1/listens/{granted['id']}").status_code == 204
        assert manager.delete(f"/v1/listens/{granted['id']}").status_code == 204
    assert get(room, granted["audio_url"]).status_code == 410


def test_links_never_come_from_a_spoofed_host(room: Room) -> None:
    with room.client("quality-manager") as manager:
        answer = manager.post(
            f"/v1/recordings/{room.recording_id}/listens",
            json={"purpose": "quality-control", "reason": REASON},
            headers={"Host": "evil.example", "X-Forwarded-Host": "evil.example"},
        )
    assert "evil" not in answer.text


def test_no_other_origin_is_invited(room: Room) -> None:
    answer = get(room, address(room), Origin="null")
    assert "access-control-allow-origin" not in answer.headers


def test_a_search_names_nobody_in_an_address(room: Room) -> None:
    asked = {
        "agent": "zoe",
        "campaign": CAMPAIGN,
        "from": "2020-01-01T00:00:00Z",
        "to": "2100-01-01T00:00:00Z",
        "purpose": "quality-control",
        "reason": REASON,
    }
    with room.client("quality-manager") as manager:
        found = manager.post("/v1/searches", json=asked)
        assert found.status_code == 200, found.text
        assert [one["id"] for one in found.json()["items"]] == [room.recording_id]
        assert manager.get("/v1/searches?number=0612345678").status_code in {404, 405}
        missed = manager.post("/v1/searches", json=asked | {"agent": "nobody"})
    assert set(missed.json()) == set(found.json())


def test_the_eleventh_listen_of_a_minute_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_one_minute(monkeypatch)
    with open_room(tmp_path, wav(1)) as quick:
        answers = [quick.grant().status_code for _ in range(11)]
        late = quick.grant()
    assert answers == [201] * 10 + [429]
    assert int(late.headers["retry-after"]) > 0


@contextmanager
def stalled_reader(room: Room, url: str) -> Iterator[socket.socket]:
    """Ask for the audio, take its first bytes and then nothing more."""
    where = urlsplit(url)
    with socket.create_connection((str(where.hostname), int(where.port or 0))) as reader:
        path = f"{where.path}?{where.query}"
        reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode())
        assert reader.recv(16).startswith(b"HTTP/1.1 200")
        yield reader


def until_answered(room: Room, url: str, status: int) -> None:
    eventually(
        lambda: get(room, url, Range="bytes=0-0").status_code == status, f"an answer {status}"
    )


def test_without_a_slot_a_listener_is_asked_to_come_back(tmp_path: Path) -> None:
    with open_room(tmp_path, wav(3_600), settings={"STREAMS_MAX": "1"}) as narrow:
        first, second = address(narrow), address(narrow)
        with stalled_reader(narrow, first):
            busy = get(narrow, second)
            assert (busy.status_code, busy.json()["code"]) == (503, "busy")
            assert int(busy.headers["retry-after"]) > 0
        until_answered(narrow, second, 206)


def test_a_reader_that_stalls_loses_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALLED_S", 0.2)
    with open_room(tmp_path, wav(3_600), settings={"STREAMS_MAX": "1"}) as narrow:
        with stalled_reader(narrow, address(narrow)) as reader:
            until_answered(narrow, address(narrow), 206)
            taken = sum(len(piece) for piece in iter(lambda: reader.recv(1 << 20), b""))
        assert taken < len(narrow.body)  # a cut is visible as a cut
