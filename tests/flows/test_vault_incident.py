"""What an account touched between two instants, as the 24-hour notice needs it."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from core.clock import to_text
from tests.fakes.asgi_caller import Reply
from tests.fakes.speech import wav
from tests.fakes.two_houses import REASON, House, Houses, open_houses

REPORT = "/v1/incidents/report"
HOUR = timedelta(hours=1)
CALL = wav(1.0)


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    with open_houses(tmp_path_factory.mktemp("incident")) as opened:
        for house in (opened.ours, opened.theirs):
            house.campaign("winter")
            house.campaign("spring")
        yield opened


@dataclass(frozen=True)
class Touched:
    """Four calls that mallory heard, the first of them heard by somebody else too."""

    houses: Houses
    recording_ids: frozenset[str]


@pytest.fixture(scope="module")
def touched(houses: Houses) -> Touched:
    ours = houses.ours
    heard = (
        spoken(ours, "winter", "a-1", "+33 1 99 00 12 34"),
        spoken(ours, "winter", "a-2", "0199001234"),  # the same person, spelt otherwise
        spoken(ours, "spring", "a-3", "+33199005678"),
        spoken(ours, "spring", "a-4", ""),
    )
    for recording_id in heard:
        hear(ours, recording_id, subject="mallory")
    hear(ours, heard[0], subject="somebody-else")
    return Touched(houses, frozenset(heard))


def now(houses: Houses) -> datetime:
    return houses.made.service.ports.clock.now()


def spoken(house: House, campaign: str, external_id: str, number: str) -> str:
    """Deposit a call with a number; returns its id."""
    metadata = {"Oubliette-Metadata": encoded(number)} if number else {}
    headers = house.headers("intake", service=True) | {"Content-Type": "audio/wav"} | metadata
    path = f"/v1/campaigns/{campaign}/recordings/{external_id}"
    reply = house.caller.send("PUT", path, headers=headers, body=CALL)
    assert reply.status == 201, reply.text
    return str(reply.json["id"])


def encoded(number: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"contact_number": number}).encode()).decode()


def hear(house: House, recording_id: str, *, subject: str) -> None:
    headers = house.headers("quality-manager", subject=subject)
    asked = {"purpose": "quality-control", "reason": REASON}
    granted = house.caller.json("POST", f"/v1/recordings/{recording_id}/listens", asked, headers)
    assert granted.status == 201, granted.text
    address = urlsplit(granted.json["audio_url"])
    played = house.caller.send("GET", f"{address.path}?{address.query}")
    assert played.status == 200, played.text
    house.made.service.listen_accounts.save_counters()  # a thread does, every 5 s


def ask(house: House, **asked: Any) -> Reply:
    query = f"?format={asked.pop('form')}" if "form" in asked else ""
    return house.caller.json("POST", REPORT + query, asked, house.headers("dpo", subject="dpo"))


def window(houses: Houses, *, before: timedelta = HOUR, after: timedelta = HOUR) -> dict[str, str]:
    return {"from": to_text(now(houses) - before), "to": to_text(now(houses) + after)}


def test_a_report_counts_recordings_people_seconds_and_campaigns(touched: Touched) -> None:
    houses, ours = touched.houses, touched.houses.ours
    found = ask(ours, subject="acme-mallory", **window(houses)).json
    counts = found["counts"]
    assert counts["recordings"] == counts["listens"] == 4
    assert counts["persons"] == 2
    assert counts["recordings_without_person"] == 1
    assert counts["campaigns"] == 2
    assert counts["delivered_s"] == pytest.approx(4.0, abs=0.1)
    assert {one["recording_id"] for one in found["recordings"]} == touched.recording_ids
    assert all("play" in one["acts"] for one in found["recordings"])
    assert all("listen-granted" in one["acts"] for one in found["recordings"])
    assert "199001234" not in str(found)  # nobody heard is named
    by_id = ask(ours, actor_id=found["actor_id"], **window(houses)).json
    assert by_id["counts"] == counts


def test_only_what_lies_between_the_two_instants_is_in_it(touched: Touched) -> None:
    houses = touched.houses
    before = ask(
        houses.ours,
        subject="acme-mallory",
        **{"from": to_text(now(houses) - 3 * HOUR), "to": to_text(now(houses) - 2 * HOUR)},
    ).json
    assert before["counts"]["recordings"] == 0
    assert before["listens"] == before["recordings"] == []


def test_a_ticket_that_was_alive_then_is_in_it_although_it_was_given_before(houses: Houses) -> None:
    ours = houses.ours
    recording_id = spoken(ours, "winter", "b-1", "")
    hear(ours, recording_id, subject="eve")
    later = {"from": to_text(now(houses) + timedelta(minutes=5)), "to": to_text(now(houses) + HOUR)}
    assert ask(ours, subject="acme-eve", **later).json["counts"]["listens"] == 1
    much_later = {"from": to_text(now(houses) + 9 * HOUR), "to": to_text(now(houses) + 10 * HOUR)}
    assert ask(ours, subject="acme-eve", **much_later).json["counts"]["listens"] == 0


def test_a_report_is_in_the_ledger_with_counts_and_no_name(touched: Touched) -> None:
    houses = touched.houses
    found = ask(houses.ours, subject="acme-mallory", **window(houses)).json
    event = houses.made.service.ledger.open_event(found["entry_id"])
    assert event["type"] == "incident-reported"
    assert event["facts"]["account"] == found["actor_id"]
    assert event["facts"]["recordings"] == 4


def test_another_houses_account_and_a_made_up_one_look_alike(houses: Houses) -> None:
    hear(houses.theirs, spoken(houses.theirs, "winter", "c-1", ""), subject="theirs")
    theirs = ask(houses.ours, subject="globex-theirs", **window(houses))
    nobody = ask(houses.ours, subject="nobody-at-all", **window(houses))
    for one in (theirs, nobody):
        assert one.status == 200
        assert one.json["counts"]["listens"] == one.json["counts"]["recordings"] == 0


def test_csv_has_a_line_a_listen_and_no_formula(touched: Touched) -> None:
    houses = touched.houses
    ours = houses.ours
    answer = ask(ours, subject="acme-mallory", form="csv", **window(houses))
    assert answer.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == 4
    assert sum(float(row["listen_seconds"]) for row in rows) == pytest.approx(4.0, abs=0.1)
    assert not any(cell[:1] in "=+-@\t\r" for row in rows for cell in row.values() if cell)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"subject": "a", "actor_id": "act_" + "0" * 26},
        {"actor_id": "rec_" + "0" * 26},
        {"subject": "a", "to": "2020-01-01T00:00:00Z"},
        {"subject": "a", "from": "2020-01-01T00:00:00Z"},
    ],
)
def test_a_question_that_means_nothing_is_refused(houses: Houses, asked: dict[str, str]) -> None:
    answer = ask(houses.ours, **{**window(houses), **asked})
    assert answer.status == 400
    assert answer.json["code"] == "invalid-request"


@pytest.mark.parametrize("role", ["quality-manager", "admin", "operator", "intake"])
def test_who_answers_for_nobodys_data_gets_no_report(houses: Houses, role: str) -> None:
    asked = {"subject": "acme-mallory", **window(houses)}
    answer = houses.caller.json("POST", REPORT, asked, houses.ours.headers(role, subject="x"))
    assert answer.status == 403


def test_an_officer_of_one_campaign_sees_what_was_touched_there(touched: Touched) -> None:
    houses = touched.houses
    headers = houses.made.headers(
        "dpo", subject="acme-narrow", controller="acme", campaigns=("winter",)
    )
    asked = {"subject": "acme-mallory", **window(houses)}
    counts = houses.caller.json("POST", REPORT, asked, headers).json["counts"]
    assert counts["recordings"] == 2
    assert counts["campaigns"] == 1


def test_the_erased_are_listed_and_tell_no_person(houses: Houses) -> None:
    ours = houses.ours
    gone = spoken(ours, "winter", "d-1", "+33199009999")
    hear(ours, gone, subject="oscar")
    plan = ours.plan(gone)
    ours.post("dpo", f"/v1/erasures/{plan['id']}/execution", plan_digest=plan["plan_digest"])
    houses.work_on()
    found = ask(ours, subject="acme-oscar", **window(houses)).json
    assert [one["recording_id"] for one in found["recordings"]] == [gone]
    assert found["recordings"][0]["state"] in {"shredded", "deleted"}
    assert found["counts"]["persons"] == 0
    assert found["counts"]["recordings_without_person"] == 1
