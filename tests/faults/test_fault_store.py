"""A whole service whose object store lies, stalls or is away: nothing false, nobody else stalls.

The store is a fake of S3 behind the real client, so that it can lie in precise ways; what a network
does to a real one is tried in ``test_vault_store_s3.py`` and in ``tests/soak``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Final

import httpx2
import pytest
import sqlalchemy as sa
from anyio import CapacityLimiter
from botocore.config import Config

from api import lanes, readiness
from tests.fakes.listening_room import CAMPAIGN, REASON, Room, begin_erasure, open_room, wav
from tests.fakes.lying_s3 import PUT_LIES, LyingS3, lying_s3
from tests.fakes.waiting import eventually
from vault.stores import s3
from vault.tables import attempts

CALL: Final = wav(2)
LARGE: Final = wav(1_200)  # above one part of a multipart upload
PACE: Final = Event()
PATIENCE_S: Final = 60.0


@dataclass(frozen=True)
class House:
    """A service over a store that can lie."""

    room: Room
    store: LyingS3

    def deposit(self, external_id: str, body: bytes = CALL) -> httpx2.Response:
        with self.room.client("intake", service=True) as platform:
            path = f"/v1/campaigns/{CAMPAIGN}/recordings/{external_id}"
            headers = {"Content-Type": "audio/wav"}
            return platform.put(path, content=body, headers=headers, timeout=PATIENCE_S)

    def hear(self, recording_id: str, who: str = "quality-manager") -> httpx2.Response:
        """Ask for a listen and hear it; what is cut in mid-stream raises."""
        with self.room.client("quality-manager", subject=who) as person:
            asked = {"purpose": "quality-control", "reason": REASON}
            granted = person.post(f"/v1/recordings/{recording_id}/listens", json=asked)
            if granted.status_code != 201:
                return granted
            address = granted.json()["audio_url"].removeprefix(self.room.url)
            return person.get(address, timeout=PATIENCE_S)

    def get(self, path: str, *roles: str) -> httpx2.Response:
        with self.room.client(*roles) as anybody:
            return anybody.get(path, timeout=PATIENCE_S)

    def states(self) -> list[str]:
        with self.room.made.service.ports.database.read() as connection:
            query = sa.select(attempts.c.state).order_by(attempts.c.leaf_index)
            return list(connection.execute(query).scalars())

    def store_errors(self) -> float:
        text = self.get("/metrics").text
        line = 'oubliette_store_errors_total{store="objects"} '
        return float(text.partition("\n" + line)[2].partition("\n")[0] or 0)

    def await_ready(self) -> None:
        eventually(lambda: self.get("/readyz").status_code == 200, "ready")


def refused(answer: httpx2.Response, code: str = "store-unavailable") -> None:
    assert (answer.status_code, answer.json()["code"]) == (503, code), answer.text
    assert int(answer.headers["retry-after"]) > 0


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingS3]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setattr(readiness, "LOOK_MAX_S", 0.5)
    twice = Config(connect_timeout=20, read_timeout=20, retries={"total_max_attempts": 2})
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(twice))
    with lying_s3() as one:
        yield one


@pytest.fixture
def hasty(store: LyingS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon what stands still; asked for before the house, which is composed with it."""
    short = Config(read_timeout=4)
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(short))


@pytest.fixture
def house(store: LyingS3, tmp_path: Path) -> Iterator[House]:
    uri = f"s3://bucket/calls?endpoint={store.url}&region=us-east-1"
    with open_room(tmp_path, CALL, settings={"STORE_URI": uri}) as room:
        yield House(room, store)


def test_a_store_that_did_not_keep_what_it_acknowledged_is_not_believed(house: House) -> None:
    for number, lie in enumerate(PUT_LIES):
        before = house.store_errors()
        house.store.lies.add(lie)
        refused(house.deposit(f"call-{lie}"))
        assert house.states()[-1] == "abandoned", lie
        assert house.store_errors() > before
        house.store.heal()
        again = house.deposit(f"call-{lie}")
        assert again.status_code == 201, again.text
        heard = house.hear(again.json()["id"], f"quentin-{number}")
        assert (heard.status_code, heard.content) == (200, CALL)


@pytest.mark.prove
@pytest.mark.parametrize("lie", ["error-in-a-200", *PUT_LIES[:1]])
def test_a_large_upload_that_a_store_only_says_it_completed_is_not_acknowledged(
    house: House, lie: str
) -> None:
    house.store.lies.add(lie)
    refused(house.deposit("large", LARGE))
    house.store.heal()
    again = house.deposit("large", LARGE)
    assert again.status_code == 201
    assert house.hear(again.json()["id"]).content == LARGE


@pytest.mark.prove
def test_another_etag_of_what_was_kept_is_no_lie(house: House) -> None:
    house.store.lies.add("another-etag")  # encrypted by the store: then it is no digest
    taken = house.deposit("call-2")
    assert taken.status_code == 201
    assert house.hear(taken.json()["id"]).content == CALL


@pytest.mark.control
def test_without_the_look_a_call_that_is_not_kept_is_acknowledged(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3.S3Writer, "_check_kept", lambda _: None)
    house.store.lies.add("keeps-nothing")
    assert house.deposit("call-2").status_code == 201
    assert len(house.store.objects) == 1


SHOWN: Final = {
    "flipped": (500, "integrity-failure"),
    "another-object": (500, "integrity-failure"),
    "truncated": (503, "store-unavailable"),
    "forgets": (500, "object-missing"),
}


def test_a_store_that_shows_something_else_is_never_heard(house: House) -> None:
    other = house.deposit("call-2", wav(2, step=9))
    for number, (lie, said) in enumerate(SHOWN.items()):
        house.store.lies.add(lie)
        heard = house.hear(other.json()["id"], f"quentin-{number}")
        assert (heard.status_code, heard.json()["code"]) == said
        assert ("retry-after" in heard.headers) == (heard.status_code == 503)
        house.store.heal()
    assert house.hear(house.room.recording_id).content == CALL


@pytest.mark.prove
def test_a_listing_that_is_stale_leaves_noise_and_no_sound(house: House) -> None:
    house.store.lies.add("stale-listing")
    (name,) = house.store.objects
    erase(house, house.room.recording_id)
    sweep = house.room.made.service.sweep
    sweep.run()
    assert list(house.store.objects) == [name]
    assert house.hear(house.room.recording_id).status_code == 410


def test_a_store_that_stalls_for_deposits_stalls_nothing_else(hasty: None, house: House) -> None:
    other = house.deposit("call-2").json()["id"]
    house.store.stalls |= {"PUT", "POST"}  # POST: what readiness asks
    with ThreadPoolExecutor(6) as senders:
        sent = [senders.submit(house.deposit, f"stalled-{n}") for n in range(6)]
        eventually(lambda: house.store.waiting >= 6, "six deposits stand still")
        assert house.hear(house.room.recording_id).content == CALL
        assert house.get("/healthz").status_code == 200
        not_ready(house, "store")
        assert house.get("/v1/campaigns", "admin").status_code == 200
        erase(house, other)
        assert house.hear(other, "quentin-2").status_code == 410
        for one in sent:
            refused(one.result(PATIENCE_S))
    house.store.heal()
    house.await_ready()
    assert [house.deposit(f"stalled-{n}").status_code for n in range(6)] == [201] * 6


@pytest.mark.prove
def test_a_recording_that_does_not_come_stalls_no_other(hasty: None, house: House) -> None:
    (first,) = house.store.objects
    other = house.deposit("call-2").json()["id"]
    house.store.stalls.add(first)
    with ThreadPoolExecutor(8) as listeners:
        waiting = [
            listeners.submit(house.hear, house.room.recording_id, f"person-{n}") for n in range(8)
        ]
        eventually(lambda: house.store.waiting >= 8, "eight listeners wait")
        assert house.hear(other).content == CALL
        assert house.deposit("call-3").status_code == 201
        house.await_ready()
        for one in waiting:
            refused(one.result(PATIENCE_S))
    house.store.heal()
    assert house.hear(house.room.recording_id, "person-9").content == CALL


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_one_ticket_keeps_nobody_from_listening(
    store: LyingS3, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for again and again, a recording that does not come takes a few threads, not all."""
    monkeypatch.setattr(lanes, "STREAM_THREADS", lanes.OPENINGS_MAX + 1)
    patient = Config(read_timeout=2 * PATIENCE_S, retries={"total_max_attempts": 1})
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(patient))
    uri = f"s3://bucket/calls?endpoint={store.url}&region=us-east-1"
    with (
        open_room(tmp_path, CALL, settings={"STORE_URI": uri}) as room,
        ThreadPoolExecutor(12) as player,
    ):
        (first,) = store.objects
        house = House(room, store)
        other = house.deposit("call-2").json()["id"]
        address = room.grant().json()["audio_url"].removeprefix(room.url)

        def ask() -> httpx2.Response:
            with room.client() as client:
                return client.request(method, address, timeout=PATIENCE_S)

        store.stalls.add(first)
        try:
            asked = [player.submit(ask) for _ in range(12)]
            eventually(lambda: sum(one.done() for one in asked) >= 8, "eight are sent away")
            eventually(lambda: store.waiting == lanes.OPENINGS_MAX, "the others wait")
            assert house.hear(other, "quentin-2").content == CALL
        finally:
            store.heal()
        codes = sorted(one.result(PATIENCE_S).status_code for one in asked)
        assert codes[-8:] == [503] * 8
        assert ask().status_code == 200


def test_threads_of_a_stalled_kind_are_no_others(
    store: LyingS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: None
) -> None:
    """More deposits stand still than the process has threads for them."""
    monkeypatch.setattr(lanes, "UPLOAD_THREADS", 2)
    with asked_while_stalled(store, tmp_path) as (house, answers):
        assert answers["/readyz"].result(PATIENCE_S).status_code in {200, 503}
        assert answers["/metrics"].result(PATIENCE_S).status_code == 200
        assert answers["/v1/campaigns"].result(PATIENCE_S).status_code == 200
        assert house.store.waiting == 2


@pytest.mark.prove
@pytest.mark.control
def test_with_threads_in_common_a_stalled_store_silences_health(
    store: LyingS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: None
) -> None:
    common: list[CapacityLimiter] = []

    def one_for_all(_: float) -> CapacityLimiter:
        common.append(CapacityLimiter(2)) if not common else None
        return common[0]

    monkeypatch.setattr(lanes, "CapacityLimiter", one_for_all)
    with asked_while_stalled(store, tmp_path) as (house, answers):
        PACE.wait(0.5)
        assert house.store.waiting == 2
        assert not answers["/metrics"].done()


@pytest.fixture
def patient(store: LyingS3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what stands still do so until it is told otherwise."""
    patient = Config(read_timeout=50, retries={"total_max_attempts": 1})
    monkeypatch.setattr(s3, "_CONFIG", s3._CONFIG.merge(patient))


@contextmanager
def asked_while_stalled(
    store: LyingS3, folder: Path
) -> Iterator[tuple[House, dict[str, Future[httpx2.Response]]]]:
    """Ask other things while more deposits than threads stand still."""
    uri = f"s3://bucket/calls?endpoint={store.url}&region=us-east-1"
    settings = {"STORE_URI": uri}
    with open_room(folder, CALL, settings=settings) as room, ThreadPoolExecutor(10) as people:
        house = House(room, store)
        store.stalls.add("PUT")
        for number in range(6):
            people.submit(house.deposit, f"stalled-{number}")
        try:
            eventually(lambda: store.waiting == 2, "two deposits stand still")
            paths: dict[str, tuple[str, ...]] = {
                "/readyz": (),
                "/metrics": (),
                "/v1/campaigns": ("admin",),
            }
            yield (
                house,
                {path: people.submit(house.get, path, *roles) for path, roles in paths.items()},
            )
        finally:
            store.heal()


def test_a_store_that_is_away_is_said_and_comes_back_by_itself(house: House) -> None:
    house.store.down = True
    refused(house.deposit("call-2"))
    refused(house.hear(house.room.recording_id))
    not_ready(house, "store")
    assert 'oubliette_ready_check_up{check="store"} 0.0' in house.get("/metrics").text
    house.store.heal()
    house.await_ready()
    assert house.deposit("call-2").status_code == 201
    assert house.hear(house.room.recording_id, "quentin-2").content == CALL


def not_ready(house: House, check: str) -> None:
    def said() -> bool:
        began = time.monotonic()
        answer = house.get("/readyz")
        assert time.monotonic() - began < 30
        return answer.status_code == 503 and check in answer.json()["checks"]

    eventually(said, check)
    assert "retry-after" in house.get("/readyz").headers


def erase(house: House, recording_id: str) -> None:
    plan = begin_erasure(house.room, recording_id)
    with house.room.client("dpo") as officer:
        eventually(lambda: officer.get(f"/v1/erasures/{plan}").json()["state"] == "done", "erased")
