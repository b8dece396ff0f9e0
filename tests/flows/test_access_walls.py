"""A whole service as an ordinary role of PostgreSQL: every flow works from behind the walls.

Whatever runs beside a request (erasure, sequencer, sweep, searches) has said its own scope, or its
work would be missing here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa

from api.doctor_walls import wall_findings
from core.clock import to_text
from core.db import open_database
from core.migrate import migrate
from core.scope import for_all_controllers, for_controllers
from tests.fakes.two_houses import THEIRS, House, Houses, basic, furnish, open_houses
from tests.fakes.waiting import eventually
from tests.fakes.walled import ordinary_database
from vault import catalogue, store
from vault.errors import RecordingNotFound
from vault.tables import recordings

pytestmark = pytest.mark.needs_postgresql


@pytest.fixture(scope="module")
def houses(tmp_path_factory: pytest.TempPathFactory, postgresql_server: str) -> Iterator[Houses]:
    folder = tmp_path_factory.mktemp("walled")
    with (
        ordinary_database(postgresql_server) as uri,
        open_houses(folder, settings={"DATABASE_URI": uri}) as opened,
    ):
        furnish(opened, opened.ours)
        furnish(opened, opened.theirs)
        yield opened


def searched(house: House) -> str:
    state: str = house.get("dpo", f"/v1/searches/{house.known['search_id']}")["state"]
    return state


def search_ended(house: House) -> bool:
    return searched(house) != "running"


def test_every_flow_works_behind_the_walls(houses: Houses) -> None:
    """Furnishing deposited, listened, held, searched, planned, erased and certified."""
    assert houses.made.service.ports.database.walled
    for house in (houses.ours, houses.theirs):
        plan = house.get("dpo", f"/v1/erasures/{house.known['erasure_id']}")
        assert plan["state"] == "done"
        eventually(partial(search_ended, house), "the end of a search")
        assert searched(house) == "done"


def test_audio_deposit_keys_and_the_sweep_work_behind_the_walls(houses: Houses) -> None:
    known, send = houses.ours.known, houses.caller.send
    audio = send("GET", f"/v1/listens/{known['listen_id']}/audio?ticket={known['ticket']}")
    assert audio.status == 200
    assert audio.body[:4] == b"RIFF"
    stored = send(
        "PUT",
        f"/v1/campaigns/{known['campaign']}/recordings/by-key",
        headers=basic(known["secret"]) | {"Content-Type": "audio/wav"},
        body=bytes(audio.body),
    )
    assert stored.status == 201
    with for_all_controllers():
        report = houses.made.service.sweep.run()
        houses.made.service.listen_accounts.close_ended()
    assert report.failures == []


def test_requests_of_one_house_never_see_the_other(houses: Houses) -> None:
    """The application's own filter is left out: the statement asks for everything."""
    database = houses.made.service.ports.database
    mine = houses.made.controller_id
    with for_controllers(mine), database.read() as connection:
        seen = set(connection.execute(sa.select(recordings.c.controller_id)).scalars())
    assert seen == {mine}


def test_control_a_query_without_its_filter_meets_the_wall(
    houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the program's own check gone, the database still holds the foreign row back."""

    def careless(connection: sa.Connection, actor: Any, recording_id: str, **_: Any) -> Any:
        found = store.read_recording(connection, recording_id)
        if found is None:
            raise RecordingNotFound
        return found

    monkeypatch.setattr(catalogue, "find_recording", careless)
    ours = houses.ours.headers("dpo")
    mine, foreign = (house.known["recording_id"] for house in (houses.ours, houses.theirs))
    assert houses.caller.send("GET", f"/v1/recordings/{mine}", headers=ours).status == 200
    answer = houses.caller.send("GET", f"/v1/recordings/{foreign}", headers=ours)
    assert answer.status == 404
    assert THEIRS not in answer.text


def test_the_doctor_tells_how_the_walls_stand(houses: Houses, postgresql_uri: str) -> None:
    database = houses.made.service.ports.database
    assert [one.verdict for one in wall_findings(database)] == ["ok"]
    with for_all_controllers(), database.transaction() as connection:
        connection.exec_driver_sql("DROP POLICY oubliette_wall ON grants")
    try:
        (found,) = wall_findings(database)
        assert (found.verdict, "grants" in found.text) == ("warn", True)
    finally:
        assert migrate(database) == "up"
    with closing(open_database(postgresql_uri)) as superuser:
        (found,) = wall_findings(superuser)
        assert (found.verdict, "superuser" in found.text) == ("warn", True)


def test_what_reads_without_saying_whose_rows_sees_none(houses: Houses) -> None:
    """Another program with the same role, as a console of the database is."""
    url = houses.made.service.ports.database.engine.url
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM recordings").scalar_one() == 0
        connection.exec_driver_sql("SELECT set_config('oubliette.controllers', '*', false)")
        assert connection.exec_driver_sql("SELECT count(*) FROM recordings").scalar_one() > 0
    engine.dispose()


def test_answers_that_stream_and_reports_work_behind_the_walls(houses: Houses) -> None:
    """They are made after the route has returned, in other threads, in the same scope."""
    ours = houses.ours
    headers = ours.headers("auditor", subject="auditor")
    export = houses.caller.send("GET", "/v1/ledger/export?format=csv", headers=headers)
    assert export.status == 200
    assert ours.known["recording_id"] in export.text
    assert houses.theirs.known["recording_id"] not in export.text
    now = houses.made.service.ports.clock.now()
    said = {
        "actor_id": ours.known["actor"],
        "from": to_text(now - timedelta(hours=1)),
        "to": to_text(now + timedelta(hours=1)),
    }
    report = ours.post("dpo", "/v1/incidents/report", **said)
    assert report["counts"]["listens"] >= 2
    theirs = ours.post(
        "dpo", "/v1/incidents/report", **said | {"actor_id": houses.theirs.known["actor"]}
    )
    assert theirs["counts"]["listens"] == 0


def test_readiness_looks_for_every_controller(houses: Houses) -> None:
    """Whoever asks has nothing in scope; the checks look at the whole vault all the same."""
    service = houses.made.service
    seen: list[int] = []

    def count() -> None:
        with service.ports.database.read() as connection:
            query = sa.select(sa.func.count(sa.distinct(recordings.c.controller_id)))
            seen.append(connection.execute(query).scalar_one())

    houses.order_entries()  # those of other tests: what has waited for 10 s is not ready
    service.readiness.checks["probe"] = count
    answer = houses.caller.send("GET", "/readyz")
    del service.readiness.checks["probe"]
    assert seen == [2]
    assert not {"keys", "ledger", "database"} & set(answer.json.get("checks", []))
