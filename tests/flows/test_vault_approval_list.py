"""The list of approvals: whose, in which state, page after page, whatever else there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from core.errors import InvalidRequest
from tests.fakes.rights_desk import CAMPAIGN, RightsDesk, open_rights_desk
from vault.access import Actor
from vault.access_tables import approvals
from vault.approval import KINDS, LIFETIME
from vault.approval_list import PAGE_ROWS_MAX, ApprovalPages
from vault.campaign import find_in_scope
from vault.cursor import Cursors

COUNT = 7


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> RightsDesk:
    return open_rights_desk(database, tmp_path)


def plant(
    desk: RightsDesk, count: int, *, state: str = "asked", by: str = "act_x", campaign: bool = False
) -> list[str]:
    """Plant approvals a minute apart, the first two of one instant; ids, newest first."""
    with desk.database.transaction() as connection:
        now = desk.database.now(connection)
        first = connection.execute(approvals.select()).all()
        campaign_id = find_in_scope(connection, desk.admin, CAMPAIGN).id if campaign else None
        rows: list[dict[str, Any]] = []
        for place in range(count):
            at = now - timedelta(minutes=max(place, 1))
            over = at - timedelta(days=1) if state == "expired" else at
            rows.append(
                {
                    "id": f"apr_{len(first) + place:026}", "kind": "export", "request": {},
                    "controller_id": desk.admin.controller_id, "campaign_id": campaign_id,
                    "request_salt": bytes(32), "request_sha256": bytes(32),
                    "state": "approved" if state == "expired" else state, "requested_by": by,
                    "requested_at": at, "requested_entry_id": "ent_x",
                    "expires_at": over + LIFETIME,
                }
            )  # fmt: skip
        connection.execute(approvals.insert(), rows)
    return [str(row["id"]) for row in rows]


def walked(desk: RightsDesk, who: Actor, state: str, limit: int) -> list[str]:
    """Return the ids of every page."""
    pages = ApprovalPages(desk.database, Cursors(bytes(32)))
    page = pages.page(who, state, limit=limit)
    seen = [one.id for one in page.items]
    while page.next_cursor is not None:
        page = pages.page(who, state, limit=limit, cursor=page.next_cursor)
        assert len(page.items) > 0
        seen += [one.id for one in page.items]
    return seen


@pytest.mark.parametrize("limit", [1, 2, COUNT - 1, COUNT, COUNT + 1])
def test_every_page_has_each_approval_once_newest_first(desk: RightsDesk, limit: int) -> None:
    wanted = plant(desk, COUNT)
    for other in ("used", "refused", "expired", "approved"):
        plant(desk, 3, state=other)
    assert walked(desk, desk.officer, "asked", limit) == wanted
    assert len(walked(desk, desk.officer, "expired", limit)) == 3
    assert len(walked(desk, desk.officer, "approved", limit)) == 3


def test_what_lies_below_thousands_of_others_is_found(desk: RightsDesk) -> None:
    """The newest 2 000 were read and filtered: older ones of a rare state were not to be seen."""
    with desk.database.read() as connection:
        now = desk.database.now(connection)
    rare = plant(desk, 1, state="refused")
    plant(desk, 2_100, state="used")
    with desk.database.transaction() as connection:
        old = now - timedelta(days=400)
        connection.execute(
            approvals.update().where(approvals.c.id == rare[0]).values(requested_at=old)
        )
    assert walked(desk, desk.officer, "refused", 50) == rare


def test_somebody_sees_their_own_and_a_supervisor_those_of_their_campaigns(
    desk: RightsDesk,
) -> None:
    everywhere, here = plant(desk, 2), plant(desk, 2, campaign=True)
    mine = plant(desk, 1, by=desk.manager.id)
    assert walked(desk, desk.manager, "asked", 1) == mine
    assert set(walked(desk, desk.admin, "asked", 2)) == {*everywhere, *here, *mine}
    narrow = replace(desk.admin, campaigns=frozenset({CAMPAIGN}))
    assert walked(desk, narrow, "asked", 1) == here
    elsewhere = replace(desk.admin, campaigns=frozenset({"other"}))
    assert walked(desk, elsewhere, "asked", 1) == []
    assert walked(desk, replace(elsewhere, id=desk.manager.id), "asked", 1) == mine


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_what_some_act_asks_for(kind: str) -> None:
    """A kind that nothing asks for would promise an act that is not there."""
    root = Path(__file__).parents[2]
    acts = [one for part in ("vault", "retention") for one in (root / part).rglob("*.py")]
    asking = [one.name for one in acts if f'"{kind}"' in one.read_text()]
    assert set(asking) - {"approval.py"}


def test_a_cursor_is_good_for_its_own_list_alone(desk: RightsDesk) -> None:
    plant(desk, 2)
    pages = ApprovalPages(desk.database, Cursors(bytes(32)))
    token = pages.page(desk.officer, "asked", limit=1).next_cursor
    foreign = replace(desk.officer, controller_id="ctl_" + "0" * 26)
    for who, state in ((desk.officer, "used"), (foreign, "asked")):
        with pytest.raises(InvalidRequest, match="cursor"):
            pages.page(who, state, cursor=token)
    for limit in (0, PAGE_ROWS_MAX + 1):
        with pytest.raises(InvalidRequest, match="limit"):
            pages.page(desk.officer, "asked", limit=limit)
    with pytest.raises(InvalidRequest, match="state"):
        pages.page(desk.officer, "open")
