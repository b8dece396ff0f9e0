"""What will be tried around rights, playback, search and exports, one test a case.

Two controllers live in one vault; everybody speaks HTTP. What concerns grants and approvals stands
in ``tests/abuse/test_abuse_rights.py``; every route with every foreign name in
``tests/abuse/test_abuse_foreign_walk.py``.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.app import build_api
from api.documents import HttpDocuments
from api.openapi import document
from core.clock import to_text
from tests.fakes.asgi_caller import Reply
from tests.fakes.speech import wav
from tests.fakes.two_houses import AGE, REASON, Houses, furnish, open_houses
from vault.ledger.audit_text import safe_cell
from vault.tables import listens

NOT_FOUND = "recording-not-found"


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Houses]:
    with open_houses(tmp_path_factory.mktemp("scope")) as opened:
        furnish(opened, opened.ours)
        furnish(opened, opened.theirs)
        yield opened


def ask(houses: Houses, method: str, path: str, said: Any = None, *, role: str = "dpo") -> Reply:
    headers = houses.ours.headers(role, subject=f"prober-{role}")
    if said is None:
        return houses.caller.send(method, path, headers=headers)
    return houses.caller.json(method, path, said, headers)


def alike(foreign: Reply, made_up: Reply, *, status: int = 404) -> None:
    """Check that a foreign name and a made-up one are refused in the same words."""
    assert foreign.status == made_up.status == status, foreign.text
    assert foreign.json == made_up.json


MADE_UP = "0" * 26


def test_another_controllers_recording_read_by_id(houses: Houses) -> None:
    foreign, mine = (one.known["recording_id"] for one in (houses.theirs, houses.ours))
    alike(ask(houses, "GET", f"/v1/recordings/{foreign}"),
          ask(houses, "GET", f"/v1/recordings/rec_{MADE_UP}"))  # fmt: skip
    assert ask(houses, "GET", f"/v1/recordings/{mine}").status == 200


def test_another_controllers_recording_heard_by_id(houses: Houses) -> None:
    said = {"purpose": "quality-control", "reason": REASON}
    foreign = houses.foreign["recording_id"]
    for role in ("quality-manager", "dpo"):
        alike(
            ask(houses, "POST", f"/v1/recordings/{foreign}/listens", said, role=role),
            ask(houses, "POST", f"/v1/recordings/rec_{MADE_UP}/listens", said, role=role),
        )


def searched(houses: Houses, campaign: str) -> Reply:
    now = houses.made.service.ports.clock.now()
    return ask(houses, "POST", "/v1/searches", {
        "campaign": campaign, "number": "+33199001234", "purpose": "quality-control",
        "reason": REASON, "from": to_text(now - timedelta(days=30)),
        "to": to_text(now + timedelta(days=1)),
    })  # fmt: skip


def test_another_controllers_recording_searched_by_filter(houses: Houses) -> None:
    for name in ("campaign", "campaign_id"):
        foreign = houses.foreign[name]
        nowhere = f"cmp_{MADE_UP}" if name == "campaign_id" else "globex-nothing"
        alike(searched(houses, foreign), searched(houses, nowhere))
    assert searched(houses, houses.ours.known["campaign"]).status == 200


def test_another_controllers_recording_erased_by_id(houses: Houses) -> None:
    def plan(recording_id: str) -> Reply:
        target = {"kind": "recording", "recording_id": recording_id}
        said = {"target": target, "legal_ground": "objection", "reason": REASON}
        return ask(houses, "POST", "/v1/erasures", said)

    alike(plan(houses.foreign["recording_id"]), plan(f"rec_{MADE_UP}"))
    said = {"plan_digest": houses.foreign["plan_digest"]}
    alike(ask(houses, "POST", f"/v1/erasures/{houses.foreign['planned_id']}/execution", said),
          ask(houses, "POST", f"/v1/erasures/era_{MADE_UP}/execution", said))  # fmt: skip
    kept = houses.theirs.get("dpo", f"/v1/recordings/{houses.foreign['recording_id']}")
    assert kept["state"] == "stored"


def test_another_controllers_recording_listed_by_filter(houses: Houses) -> None:
    foreign = ask(houses, "GET", f"/v1/recordings?campaign={houses.foreign['campaign']}")
    alike(foreign, ask(houses, "GET", "/v1/recordings?campaign=globex-nothing"))
    whole = ask(houses, "GET", "/v1/recordings?limit=200").json["items"]
    theirs = houses.theirs.get("dpo", "/v1/recordings?limit=200")["items"]
    assert whole
    assert theirs
    assert not {one["id"] for one in whole} & {one["id"] for one in theirs}


def test_another_controllers_recording_listed_by_cursor(houses: Houses) -> None:
    """A cursor of the foreign list is refused like any other that was not made for this list."""
    path = "/v1/recordings?limit=1&cursor="
    cursor = houses.foreign["cursor"]
    spoilt = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    alike(ask(houses, "GET", path + cursor), ask(houses, "GET", path + spoilt), status=400)
    own = houses.ours.known["cursor"]
    headers = houses.ours.headers("quality-manager", subject="quality-manager")
    assert houses.caller.send("GET", path + own, headers=headers).status == 200


def test_another_controllers_recording_exported_by_id(houses: Houses) -> None:
    def export(*recording_ids: str) -> Reply:
        said = {"recording_ids": list(recording_ids), "recipient": AGE, "purpose": "legal-claim"}
        return ask(houses, "POST", "/v1/exports", said | {"reason": REASON})

    foreign, mine = (one.known["recording_id"] for one in (houses.theirs, houses.ours))
    alike(export(foreign), export(f"rec_{MADE_UP}"))
    alike(export(mine, foreign), export(mine, f"rec_{MADE_UP}"))
    there = houses.foreign["export_id"]
    for tail in ("", "/file"):
        alike(ask(houses, "GET", f"/v1/exports/{there}{tail}"),
              ask(houses, "GET", f"/v1/exports/exp_{MADE_UP}{tail}"))  # fmt: skip
    assert ask(houses, "GET", f"/v1/exports/{houses.ours.known['export_id']}").status == 200


def play(houses: Houses, listen_id: str, ticket: str, **headers: str) -> Reply:
    path = f"/v1/listens/{listen_id}/audio"
    return houses.caller.send("GET", path, query={"ticket": ticket}, headers=headers)


def granted(houses: Houses, recording_id: str, *, browser: bool = False) -> tuple[str, str, str]:
    """Return listen id, ticket and cookie of a fresh listen."""
    headers = houses.ours.headers("quality-manager", subject="listener")
    headers |= {"Sec-Fetch-Mode": "cors"} if browser else {}
    said = {"purpose": "quality-control", "reason": REASON}
    made = houses.caller.json("POST", f"/v1/recordings/{recording_id}/listens", said, headers)
    assert made.status == 201, made.text
    ticket = made.json["audio_url"].partition("ticket=")[2]
    return made.json["id"], ticket, made.headers.get("set-cookie", "").partition(";")[0]


def ended(reply: Reply) -> None:
    assert (reply.status, reply.json["code"]) == (410, "ticket-ended")


def test_a_playback_url_without_its_cookie(houses: Houses) -> None:
    listen_id, ticket, cookie = granted(houses, houses.ours.known["recording_id"], browser=True)
    assert cookie.startswith(f"__Host-oubliette-{listen_id}=")
    assert play(houses, listen_id, ticket, Cookie=cookie).status == 200
    ended(play(houses, listen_id, ticket))


def test_a_playback_url_from_another_session(houses: Houses) -> None:
    recording_id = houses.ours.known["recording_id"]
    listen_id, ticket, _ = granted(houses, recording_id, browser=True)
    other_id, other_ticket, other = granted(houses, recording_id, browser=True)
    renamed = f"__Host-oubliette-{listen_id}={other.partition('=')[2]}"
    for cookie in (other, renamed, renamed.rpartition("=")[0] + "="):
        ended(play(houses, listen_id, ticket, Cookie=cookie))
    ended(play(houses, listen_id, other_ticket))  # a ticket of another listen
    ended(play(houses, other_id, ticket))


def test_a_playback_url_after_erasure(houses: Houses) -> None:
    ours = houses.ours
    gone = ours.deposit(ours.known["campaign"], "to-be-erased", pitch=9).json["id"]
    listen_id, ticket, _ = granted(houses, gone)
    assert play(houses, listen_id, ticket).status == 200
    plan = ours.plan(gone)
    ours.post("dpo", f"/v1/erasures/{plan['id']}/execution", plan_digest=plan["plan_digest"])
    before_the_key_is_gone = play(houses, listen_id, ticket)
    assert (before_the_key_is_gone.status, before_the_key_is_gone.json["code"]) == (
        410,
        "recording-erased",
    )
    houses.work_on()
    after = play(houses, listen_id, ticket)
    assert (after.status, after.json["code"]) == (410, "recording-erased")
    ended(play(houses, listen_id, "A" * len(ticket)))  # who has no ticket learns nothing


def test_a_playback_url_past_its_byte_budget(houses: Houses) -> None:
    listen_id, ticket, _ = granted(houses, houses.ours.known["recording_id"])
    assert play(houses, listen_id, ticket).status == 200
    with houses.made.service.ports.database.transaction() as connection:
        connection.execute(
            sa.update(listens)
            .where(listens.c.id == listen_id)
            .values(bytes_sent=listens.c.byte_budget)
        )
    ended(play(houses, listen_id, ticket))


@pytest.mark.parametrize("reason", [None, "", " ", "\t\n", "\u00a0", "a" * 12, "x y"])
def test_a_listen_with_no_reason_a_blank_one_one_space(houses: Houses, reason: str | None) -> None:
    path = f"/v1/recordings/{houses.ours.known['recording_id']}/listens"
    said = {"purpose": "quality-control"} | ({} if reason is None else {"reason": reason})
    answer = ask(houses, "POST", path, said, role="quality-manager")
    assert answer.status == (400 if reason is None else 422)
    assert answer.json["code"] == ("invalid-request" if reason is None else "reason-required")


def test_membership_probing_by_uploads(houses: Houses) -> None:
    """Whether a call is in the foreign house cannot be learnt by sending it into one's own."""
    campaign = houses.ours.known["campaign"]
    known, unknown = houses.foreign["external_id"], "globex-call-that-never-was"
    there = [houses.ours.deposit(campaign, one, pitch=5) for one in (known, unknown)]
    assert [one.status for one in there] == [201, 201]
    facts = [sorted(one.json) for one in there]
    assert facts[0] == facts[1]
    foreign = houses.foreign["campaign"]
    alike(houses.ours.deposit(foreign, known, pitch=5),
          houses.ours.deposit("globex-nothing", known, pitch=5))  # fmt: skip


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "\uff0b1", "\uff0d1",
            "\uff201", "\u00a0=1"]  # fmt: skip


@pytest.mark.parametrize("formula", FORMULAS, ids=repr)
def test_csv_formulas_in_every_exported_field(houses: Houses, formula: str) -> None:
    """Subject and reason are a caller's words; no cell of an export begins a formula."""
    assert safe_cell(formula).startswith("'")
    subject = formula.strip() or "x"
    headers = houses.made.headers("quality-manager", subject=subject, controller="acme")
    said = {"purpose": "quality-control", "reason": f"{subject} is what I must hear"}
    path = f"/v1/recordings/{houses.ours.known['recording_id']}/listens"
    assert houses.caller.json("POST", path, said, headers).status in {201, 422}
    text = ask(houses, "GET", "/v1/ledger/export?format=csv", role="auditor").text
    now = houses.made.service.ports.clock.now()
    window = {"from": to_text(now - timedelta(hours=1)), "to": to_text(now + timedelta(hours=1))}
    report = {"subject": subject, **window}
    text += ask(houses, "POST", "/v1/incidents/report?format=csv", report).text
    cells = [cell for row in csv.reader(io.StringIO(text)) for cell in row]
    assert any(subject in cell for cell in cells)
    begins = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")
    assert [cell for cell in cells if cell.lstrip().startswith(begins)] == []


XSS = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_xss_through_metadata_file_name_reason_agent(houses: Houses) -> None:
    """What callers say comes back as JSON data alone, under headers that run no script."""
    ours = houses.ours
    said = {"agent": XSS, "contact_reference": XSS, "free": {"note": XSS}}
    headers = ours.headers("intake", service=True) | {
        "Content-Type": "audio/wav",
        "Content-Disposition": f'attachment; filename="{XSS}.wav"',
        "Oubliette-Metadata": base64.urlsafe_b64encode(json.dumps(said).encode()).decode(),
    }
    path = f"/v1/campaigns/{ours.known['campaign']}/recordings/xss"
    stored = houses.caller.send("PUT", path, headers=headers, body=wav(0.5, 11))
    assert stored.status == 201, stored.text
    listened = {"purpose": "quality-control", "reason": f"{XSS} to be heard"}
    recording = f"/v1/recordings/{stored.json['id']}"
    ask(houses, "POST", f"{recording}/listens", listened, role="quality-manager")
    for where in (recording, "/v1/recordings", f"{recording}/listens", "/v1/ledger/entries"):
        answer = ask(houses, "GET", where)
        assert answer.status == 200
        assert answer.headers["content-type"] == "application/json"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert ask(houses, "GET", recording).json["agent"] == XSS


def test_header_injection_through_a_file_name(houses: Houses) -> None:
    ours = houses.ours
    name = 'a.wav"\r\nSet-Cookie: x=1\r\nX-Evil: "1'
    headers = ours.headers("intake", service=True) | {
        "Content-Type": "audio/wav",
        "Content-Disposition": f'attachment; filename="{name}"',
    }
    path = f"/v1/campaigns/{ours.known['campaign']}/recordings/injected"
    stored = houses.caller.send("PUT", path, headers=headers, body=wav(0.5, 12))
    assert stored.status in {201, 400}
    recording_id = stored.json["id"] if stored.status == 201 else ours.known["recording_id"]
    listen_id, ticket, _ = granted(houses, recording_id)
    for answer in (stored, play(houses, listen_id, ticket),
                   ask(houses, "GET", f"/v1/recordings/{recording_id}")):  # fmt: skip
        assert not {"set-cookie", "x-evil"} & set(answer.headers)
        assert not any("\r" in value or "\n" in value for value in answer.headers.values())


INSIDE = ["http://169.254.169.254/latest/meta-data", "http://10.0.0.1/", "http://[::ffff:a00:1]/",
          "http://2130706433.example/", "http://0x7f000001.example/", "http://localtest.me/",
          "file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "http://192.168.1.1/",
          "http://[fe80::1]/", "http://metadata.google.internal/"]  # fmt: skip


@pytest.mark.parametrize("address", INSIDE)
def test_ssrf_through_callback_and_fetch_urls(houses: Houses, address: str) -> None:
    """Nothing a caller says is fetched; what the settings name is fetched by https alone."""
    with pytest.raises(OSError, match=r"not https|no usable answer"):
        HttpDocuments().get(address)
    described = document(build_api(houses.made.service))
    named = json.dumps([schema.get("properties", {}) for name, schema
                        in described["components"]["schemas"].items()
                        if "Answer" not in name and name != "Problem"])  # fmt: skip
    assert not any(word in named for word in ('"callback', '"webhook', '"fetch', '"url"', '"uri"'))


def test_secrets_in_openapi_examples(houses: Houses) -> None:
    text = json.dumps(document(build_api(houses.made.service)))
    for house in (houses.ours, houses.theirs):
        for name in ("secret", "ticket", "recording_id", "actor"):
            assert house.known[name] not in text
    assert "BEGIN" not in text
    assert str(Path.home()) not in text
