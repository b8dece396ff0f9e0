"""Figures: what a scrape shows after real work, and that looking never reads a whole table."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from api import figures
from api.background import HeldJob
from api.blob_watch import BlobWatch
from api.figures import Figures
from api.metrics import Metrics
from api.roles import ROLES, WORK
from api.server import Server
from core.db import Database
from core.errors import DatabaseUnavailable
from retention.tables import erasures
from tests.composition import Made, build_service, running_server
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from vault.access_tables import accounts
from vault.account_view import ADMINS
from vault.errors import ObjectMissing, StoreUnavailable
from vault.tables import attempts, recordings

QUERIES = {
    name: getattr(figures, name)
    for name in ("_ERASURES", "_ATTEMPTS", "_SWEPT", "_TO_DELETE", "_LISTENS", "ADMINS")
}


def figure(metrics: Metrics, name: str, **labels: str) -> float:
    found = metrics.registry.get_sample_value(name, labels)
    assert found is not None, f"no figure {name} {labels}"
    return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Made, httpx2.Client]]:
    """Serve a vault in which nothing is swept: what a test puts into its rows stays there."""
    made = build_service(tmp_path, role="api")
    with (
        running_server(made.service) as address,
        httpx2.Client(base_url=address, timeout=30) as client,
    ):
        yield made, client


def deposit(made: Made, client: httpx2.Client) -> dict[str, Any]:
    admin, officer = made.headers("admin"), made.headers("dpo")
    client.post("/v1/campaigns", headers=admin, json={"slug": "c", "name": "C"}).raise_for_status()
    client.put("/v1/campaigns/c/policy", headers=officer, json=POLICY).raise_for_status()
    client.post("/v1/campaigns/c/open", headers=admin).raise_for_status()
    answer = client.put(
        "/v1/campaigns/c/recordings/call-1",
        headers=made.headers("intake") | {"Content-Type": "audio/wav"},
        content=wav(1.0, 7),
    )
    assert answer.status_code == 201, answer.text
    facts: dict[str, Any] = answer.json()
    return facts


def test_work_is_counted_once_it_is_committed(served: tuple[Made, httpx2.Client]) -> None:
    made, client = served
    metrics = made.service.metrics
    entries = "oubliette_ledger_entries_total"
    assert figure(metrics, entries, type="recording-deposited") == 0
    facts = deposit(made, client)
    assert figure(metrics, entries, type="recording-deposited") == 1
    assert figure(metrics, "oubliette_deposited_audio_bytes_total") == facts["clear_bytes"]
    assert figure(metrics, "oubliette_deposited_audio_seconds_total") == facts["duration_ms"] / 1000
    client.put(
        "/v1/campaigns/c/recordings/call-1",
        headers=made.headers("intake") | {"Content-Type": "audio/wav"},
        content=wav(1.0, 7),
    ).raise_for_status()  # the same again is no second recording
    assert figure(metrics, "oubliette_deposited_audio_bytes_total") == facts["clear_bytes"]
    refused = client.post(
        f"/v1/recordings/{facts['id']}/listens",
        headers=made.headers("auditor"),
        json={"purpose": "quality-control", "reason": "Quality review of this month"},
    )
    assert refused.status_code == 403
    assert figure(metrics, entries, type="listen-denied") == 1


def test_the_database_is_looked_at(served: tuple[Made, httpx2.Client]) -> None:
    made, client = served
    facts = deposit(made, client)
    service = made.service
    looking = Figures(service.ports.database, service.ledger, service.metrics)
    with service.ports.database.transaction() as connection:
        now = service.ports.database.now(connection)
        connection.execute(
            recordings.update().where(recordings.c.id == facts["id"]).values(state="shredded")
        )
        planned = {
            "id": "era_" + "0" * 26, "controller_id": made.controller_id, "kind": "expiry",
            "state": "planned", "legal_ground": "retention", "plan_digest": bytes(32),
            "planned_at": now, "planned_by": "act_" + "0" * 26, "braked": True,
        }  # fmt: skip
        connection.execute(erasures.insert().values(**planned))
    began_s = time.monotonic()
    looking.refresh()
    assert figure(service.metrics, "oubliette_figures_age_seconds") >= 0
    assert figure(service.metrics, "oubliette_figures_age_seconds") <= time.monotonic() - began_s
    assert figure(service.metrics, "oubliette_accounts_admins") == 1
    assert figure(service.metrics, "oubliette_objects_to_delete") == 1
    assert figure(service.metrics, "oubliette_erasures_waiting", state="planned") == 1
    assert figure(service.metrics, "oubliette_erasures_waiting", state="running") == 0
    assert figure(service.metrics, "oubliette_sweep_brakes_engaged") == 1
    assert figure(service.metrics, "oubliette_attempts", state="open") == 0
    assert figure(service.metrics, "oubliette_key_destructions_due") == 0
    assert 0 < figure(service.metrics, "oubliette_key_lease_left_seconds") <= 30


def test_admins_are_counted_at_every_look_in_every_process(database: Database) -> None:
    seen_at = datetime(2026, 3, 2, tzinfo=UTC)
    row = {
        "controller_id": "ctl_" + "0" * 26, "kind": "person", "company": "",
        "token_issued_at": seen_at, "first_seen_at": seen_at, "last_seen_at": seen_at,
    }  # fmt: skip
    people: list[tuple[list[str], datetime | None]] = [
        (["admin"], None), (["admin", "dpo"], None), (["admin"], seen_at), (["auditor"], None),
    ]  # fmt: skip
    with database.transaction() as connection:
        for number, (roles, suspended_at) in enumerate(people):
            who = {"actor_id": f"act_{number:026}", "roles": roles, "suspended_at": suspended_at}
            connection.execute(accounts.insert().values(**row, **who))
    with database.read() as connection:
        assert connection.execute(ADMINS).scalar_one() == 2


def test_figures_that_could_not_be_looked_up_grow_old(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    looking = Figures(made.service.ports.database, made.service.ledger, made.service.metrics)
    looking._looked_s -= 100
    made.service.ports.database.close()
    (tmp_path / "data" / "vault" / "oubliette.db").rename(tmp_path / "gone")
    (tmp_path / "data" / "vault" / "oubliette.db").mkdir()
    with pytest.raises(DatabaseUnavailable):
        looking.refresh()
    assert figure(made.service.metrics, "oubliette_figures_age_seconds") > 99


def plan(database: Database, query: sa.Select[Any]) -> str:
    with database.read() as connection:
        if not database.is_sqlite:
            # an empty table is scanned whatever there is: ask what it could do with an index
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        text = query.compile(
            dialect=database.engine.dialect, compile_kwargs={"literal_binds": True}
        )
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        rows = connection.exec_driver_sql(f"{explain} {text}").all()
        return "\n".join(str(row) for row in rows)


@pytest.mark.parametrize("name", QUERIES)
def test_every_look_follows_an_index(database: Database, name: str) -> None:
    assert not whole_table(plan(database, QUERIES[name]))


def test_a_look_without_an_index_is_noticed(database: Database) -> None:
    by_size = sa.select(sa.func.count()).where(recordings.c.clear_bytes == 0)
    by_owner = sa.select(sa.func.count()).where(attempts.c.owner == "run-1")
    assert whole_table(plan(database, by_size))
    assert whole_table(plan(database, by_owner))


def whole_table(told: str) -> bool:
    tables = "recordings|attempts|erasures|listens|sweep_runs"
    told = told.replace("SCAN accounts USING INDEX ix_accounts_admins", "")
    return bool(re.search(rf"SCAN (?:{tables}|accounts)|Seq Scan", told))


def test_every_thread_has_its_roles_and_every_role_its_threads(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    assert {one.name for one in made.service.threads.watched} == set(WORK)
    for role in ROLES:
        assert [one for one, roles in WORK.items() if role in roles]
    made.service.ports.database.close()


def test_a_worker_answers_health_and_nothing_else(tmp_path: Path) -> None:
    made = build_service(tmp_path, role="worker")
    assert {one.name for one in made.service.threads.watched} >= {"scheduler", "erasures"}
    assert isinstance(Server(made.service), Server)
    with (
        running_server(made.service) as address,
        httpx2.Client(base_url=address, timeout=30) as client,
    ):
        assert client.get("/healthz").status_code == 200
        assert b"oubliette_build_info" in client.get("/metrics").content
        put = client.put("/v1/campaigns/c/recordings/x", headers=made.headers("intake"))
        assert put.status_code == 404
        assert put.headers["content-type"] == "application/problem+json"
        assert client.get("/v1/campaigns", headers=made.headers("dpo")).status_code == 404


def test_an_api_process_ends_nothing(tmp_path: Path) -> None:
    made = build_service(tmp_path, role="api")
    names = {one.name for one in made.service.threads.watched}
    assert names.isdisjoint({"scheduler", "work-lease", "erasures", "anchor"})
    assert {"leases", "lease-ends", "sequencer", "attempts", "figures"} <= names
    made.service.ports.database.close()


def test_a_place_that_lacks_a_blob_grows_old_until_it_is_filled(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    metrics, places = made.service.metrics, made.service.ports.places
    watch = BlobWatch(made.service.ports.database, places, metrics)
    watch.run()
    name = "oubliette_blob_place_age_seconds"
    assert [figure(metrics, name, place=place) for place in "01"] == [0, 0]
    hidden = tmp_path / "data" / "blobs-2"
    hidden.rename(tmp_path / "hidden")
    watch.run()
    watch._lacks_since_s[1] -= 50
    watch.run()  # the age counts from the first look that missed it
    assert figure(metrics, name, place="0") == 0
    assert figure(metrics, name, place="1") >= 50
    (tmp_path / "hidden").rename(hidden)
    watch.run()
    assert figure(metrics, name, place="1") == 0
    made.service.ports.database.close()


class Spy:
    runs = 0

    def run(self) -> None:
        self.runs += 1


def test_a_job_runs_where_the_lease_is_held(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    spy, elsewhere = Spy(), Spy()
    job = HeldJob(spy, made.service.work_lease, elsewhere.run)
    job.run()
    assert (spy.runs, elsewhere.runs) == (0, 1)
    made.service.work_lease.renew()
    job.run()
    assert (spy.runs, elsewhere.runs) == (1, 1)
    made.service.ports.database.close()


class Broken:
    """A store that gives out nothing."""

    uri = "memory:"
    reads_block = False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, key: str, start: int, length: int) -> bytes:
        raise self.error


def test_store_failures_are_counted_and_answers_are_not() -> None:
    from api.counted_store import CountedStore

    metrics = Metrics()
    failed = metrics.store_errors.labels("objects").inc
    broken: Any = Broken(StoreUnavailable(what="down"))
    with pytest.raises(StoreUnavailable):
        CountedStore(broken, failed).read("v1/x", 0, 1)
    missing: Any = Broken(ObjectMissing())
    with pytest.raises(ObjectMissing):
        CountedStore(missing, failed).read("v1/x", 0, 1)
    assert figure(metrics, "oubliette_store_errors_total", store="objects") == 1
