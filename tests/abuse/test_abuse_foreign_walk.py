"""Another controller's data cannot be reached by any route of the OpenAPI description.

The walk is generated from the document: a route that comes later is walked too, and one whose path
names something that the foreign house does not have fails until it is planted there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.app import build_api
from api.openapi import document
from core.db import metadata
from core.scope import for_all_controllers
from tests.fakes.foreign_walk import PUBLIC, SHARED, Walk
from tests.fakes.two_houses import THEIRS, Houses, furnish, open_houses
from vault import catalogue, store
from vault.errors import ListenDenied, RecordingNotFound
from vault.tables import controllers


@pytest.fixture
def houses(tmp_path: Path) -> Iterator[Houses]:
    with open_houses(tmp_path) as opened:
        furnish(opened, opened.ours)
        furnish(opened, opened.theirs)
        yield opened


def walk(houses: Houses) -> Walk:
    walked = Walk(houses, document(build_api(houses.made.service)))
    walked.run()
    return walked


def rows_of_theirs(houses: Houses) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of the foreign controller, table by table."""
    found = {}
    with for_all_controllers(), houses.made.service.ports.database.read() as connection:
        theirs = connection.execute(
            sa.select(controllers.c.id).where(controllers.c.slug == THEIRS)
        ).scalar_one()
        for table in metadata.sorted_tables:
            if "controller_id" in table.c and not table.name.startswith("key_"):
                query = sa.select(table).where(table.c.controller_id == theirs)
                rows = connection.execute(query.order_by(*table.primary_key.columns)).all()
                found[table.name] = [tuple(row) for row in rows]
    return found


def test_another_controllers_data_is_reached_by_no_route(
    houses: Houses, record_property: Callable[[str, object], None]
) -> None:
    houses.order_entries()  # an index is given once, and not by whoever walks
    before = rows_of_theirs(houses)
    assert sum(map(len, before.values())) > 20
    walked = walk(houses)
    record_property("routes", walked.routes)
    record_property("route_leaks", len(walked.leaks))
    record_property("counts", f"{walked.routes} routes, {walked.requests} requests, "
                              f"{len(walked.leaks)} leaks")  # fmt: skip
    assert walked.leaks == []
    assert walked.routes >= 44
    assert rows_of_theirs(houses) == before  # nothing of theirs was changed, nothing added


def test_every_route_is_walked(houses: Houses) -> None:
    described = document(build_api(houses.made.service))
    walked = Walk(houses, described)
    assert {one.path for one in walked.operations()} == set(described["paths"])
    assert set(described["paths"]) >= PUBLIC | SHARED


def test_a_foreign_slug_is_free_in_ones_own_house(houses: Houses) -> None:
    """Whether another controller uses a name is nobody's business."""
    slug = houses.foreign["campaign"]
    made = houses.ours.post("admin", "/v1/campaigns", slug=slug, name="Ours")
    assert made["id"] != houses.foreign["campaign_id"]
    assert houses.ours.get("dpo", f"/v1/campaigns/{slug}")["id"] == made["id"]


def _anyones_recording(connection: sa.Connection, actor: Any, recording_id: str, **_: Any) -> Any:
    found = store.read_recording(connection, recording_id)
    if found is None:
        raise RecordingNotFound
    return found


def test_control_a_route_whose_filter_was_removed_is_caught(
    houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "find_recording", _anyones_recording)
    leaks = walk(houses).leaks
    assert any("GET /v1/recordings/{recording_id} as dpo" in leak for leak in leaks)


def test_control_a_refusal_that_tells_a_foreign_id_apart_is_caught(
    houses: Houses, monkeypatch: pytest.MonkeyPatch
) -> None:
    """403 for what exists elsewhere and 404 for what does not is a leak by itself."""

    def telling(connection: sa.Connection, actor: Any, recording_id: str, **_: Any) -> Any:
        found = _anyones_recording(connection, actor, recording_id)
        if found.controller_id != actor.controller_id:
            raise ListenDenied(why="campaign")
        return found

    monkeypatch.setattr(catalogue, "find_recording", telling)
    leaks = walk(houses).leaks
    assert any("GET /v1/recordings/{recording_id} as dpo" in leak for leak in leaks)
