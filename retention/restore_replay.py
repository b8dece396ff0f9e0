"""What was decided since a backup, read again from the ledger: campaigns, holds, keys, rights.

Entries are applied in the ledger's order, each one only where the database does not know it yet, so
that a second run changes nothing. An entry whose month is forgotten, or whose text is lost, is
counted and left out. A decision that the ledger has said again before it forgot it
(``retention.restate``) keeps the instant and the actor of the first time.

Deposit keys and upload addresses come back as the SHA-256 of their secrets, the revoked ones
revoked. Entries of before that digest was in them bring none back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from retention import hold_rows
from retention.hold_rows import Hold
from retention.restore_entry import Entry
from retention.restore_rights import RIGHTS
from retention.tables import hold_recordings, holds, policies
from vault import campaign as campaigns_of
from vault.ledger.append import Ledger
from vault.tables import campaigns, controllers, deposit_keys, ledger_entries

PAGE_ROWS: Final = 500


@dataclass(frozen=True)
class Replayed:
    """What a replay did."""

    changed: int
    campaigns: int
    unreadable: int


@dataclass(frozen=True)
class Replay:
    """Applies decisions of the ledger to a database that may not know them."""

    database: Database
    ledger: Ledger

    def run(self) -> Replayed:
        """Apply every decision there is; returns how many changed something.

        Raises:
            KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        return self._apply(_APPLY)

    def run_controllers(self) -> Replayed:
        """Make the controllers' own rows, before anything that belongs to them."""
        return self._apply({"controller-created": _create_controller})

    def _apply(self, apply: Mapping[str, Callable[[Connection, Entry], bool]]) -> Replayed:
        counts = {"changed": 0, "campaigns": 0, "unreadable": 0}
        for row in decisions(self.database, sorted(apply)):
            entry = self._open(row)
            if entry is None:
                counts["unreadable"] += 1
                continue
            with self.database.transaction() as connection:
                changed = apply[entry.type](connection, entry)
            counts["changed"] += changed
            counts["campaigns"] += changed and entry.type == "campaign-created"
        return Replayed(**counts)

    def _open(self, row: Any) -> Entry | None:
        try:
            event: Mapping[str, Any] = self.ledger.open_entry(row.id).event
        except (LeafPunctured, IntegrityFailure):
            return None
        again = event["facts"].get("restated")
        return Entry(
            id=row.id,
            type=row.type,
            controller_id=row.controller_id,
            campaign_id=row.campaign_id,
            actor_id=again["by"] if again else row.actor_id,
            at=datetime.fromisoformat(again["at"]) if again else row.happened_at,
            facts=event["facts"],
        )


def decisions(
    database: Database, types: Sequence[str], *also: sa.ColumnElement[bool]
) -> Iterator[Any]:
    """Yield the ledger's rows of some types in its order, a page at a time; ``also`` narrows."""
    last = -1
    while True:
        query = (
            sa.select(ledger_entries)
            .where(ledger_entries.c.type.in_(types), ledger_entries.c.seq > last, *also)
            .order_by(ledger_entries.c.seq)
            .limit(PAGE_ROWS)
        )
        with database.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return
        last = rows[-1].seq
        yield from rows


def _create_controller(connection: Connection, entry: Entry) -> bool:
    return make_controller(
        connection,
        entry.controller_id,
        slug=entry.facts["slug"],
        name=entry.facts["name"],
        at=entry.at,
    )


def make_controller(
    connection: Connection, controller_id: str, *, slug: str, name: str, at: datetime
) -> bool:
    """Insert a controller's row unless it is there; tell whether it was inserted."""
    known = sa.select(controllers.c.id).where(controllers.c.id == controller_id)
    if connection.execute(known).first():
        return False
    campaigns_of.create_controller(
        connection, controller_id=controller_id, slug=slug, name=name, at=at
    )
    return True


def _create_campaign(connection: Connection, entry: Entry) -> bool:
    known = sa.select(campaigns.c.id).where(campaigns.c.id == entry.campaign_id)
    owner = sa.select(controllers.c.id).where(controllers.c.id == entry.controller_id)
    if connection.execute(known).first() or not connection.execute(owner).first():
        return False
    connection.execute(
        campaigns.insert().values(
            id=entry.campaign_id,
            controller_id=entry.controller_id,
            slug=entry.facts["slug"],
            name=entry.facts.get("name", entry.facts["slug"]),
            state="draft",
            prefix=entry.facts["prefix"],
            processor="",
            listen_purposes=[],
            countries=[],
            created_at=entry.at,
        )
    )
    return True


def _open_campaign(connection: Connection, entry: Entry) -> bool:
    return _move(connection, entry, before="draft", state="open", opened_at=entry.at)


def _close_campaign(connection: Connection, entry: Entry) -> bool:
    return _move(connection, entry, before="open", state="closed", closed_at=entry.at)


def _move(connection: Connection, entry: Entry, *, before: str, **values: Any) -> bool:
    changed = connection.execute(
        campaigns.update()
        .where(campaigns.c.id == entry.campaign_id, campaigns.c.state == before)
        .values(**values)
    )
    return changed.rowcount == 1


def _change_policy(connection: Connection, entry: Entry) -> bool:
    # long: one line a column of a policy's row
    facts = entry.facts
    newest = sa.select(sa.func.max(policies.c.version)).where(
        policies.c.campaign_id == entry.campaign_id
    )
    known = connection.execute(newest).scalar() or 0
    exists = sa.select(campaigns.c.id).where(campaigns.c.id == entry.campaign_id)
    if facts["version"] <= known or not connection.execute(exists).first():
        return False
    connection.execute(
        policies.insert().values(
            campaign_id=entry.campaign_id,
            version=facts["version"],
            preset=facts["preset"],
            retention=facts["retention"],
            legal_basis=facts["legal_basis"],
            balancing_text=facts["balancing_text"],
            justification=facts["justification"],
            set_at=entry.at,
            set_by=entry.actor_id,
        )
    )
    campaigns_of.set_terms(
        connection,
        str(entry.campaign_id),
        processor=facts["processor"],
        listen_purposes=facts["listen_purposes"],
        sensitive_purposes=facts.get("sensitive_purposes", ()),
        countries=facts["countries"],
    )
    return True


def _place_hold(connection: Connection, entry: Entry) -> bool:
    facts = entry.facts
    known = sa.select(holds.c.id).where(holds.c.id == facts["hold"])
    if connection.execute(known).first():
        return _name_more(connection, facts)
    if facts.get("from_restore"):
        return False  # of an earlier restore: the one under way has set its own
    hold_rows.insert(
        connection,
        Hold(
            id=facts["hold"],
            kind="hold" if entry.type == "hold-placed" else "restriction",
            scope=facts["scope"],
            controller_id=entry.controller_id,
            campaign_id=entry.campaign_id,
            recording_ids=tuple(facts["recordings"]),
            placed_at=entry.at,
            placed_by=entry.actor_id,
            placed_entry_id=entry.id,
            review_on=date.fromisoformat(facts["review_on"]) if facts["review_on"] else None,
        ),
    )
    return True


def _name_more(connection: Connection, facts: Mapping[str, Any]) -> bool:
    """Add recordings that a hold's further entries name; a long list stands in several."""
    query = sa.select(hold_recordings.c.recording_id).where(
        hold_recordings.c.hold_id == facts["hold"]
    )
    known = set(connection.execute(query).scalars())
    more = [one for one in facts["recordings"] if one not in known]
    if more:
        rows = [{"hold_id": facts["hold"], "recording_id": one} for one in more]
        connection.execute(hold_recordings.insert(), rows)
    return bool(more)


def _lift_hold(connection: Connection, entry: Entry) -> bool:
    changed = connection.execute(
        holds.update()
        .where(holds.c.id == entry.facts["hold"], holds.c.lifted_at.is_(None))
        .values(lifted_at=entry.at, lifted_by=entry.actor_id)
    )
    return changed.rowcount == 1


def _issue_key(connection: Connection, entry: Entry) -> bool:
    facts = entry.facts
    known = sa.select(deposit_keys.c.id).where(deposit_keys.c.id == facts["deposit_key_id"])
    owner = sa.select(campaigns.c.id).where(campaigns.c.id == entry.campaign_id)
    if "secret_sha256" not in facts or connection.execute(known).first():
        return False
    if connection.execute(owner).first() is None:
        return False
    mac, expires_at = facts["external_id_mac"], facts["expires_at"]
    connection.execute(
        deposit_keys.insert().values(
            id=facts["deposit_key_id"],
            controller_id=entry.controller_id,
            campaign_id=entry.campaign_id,
            kind=facts["kind"],
            label=facts["label"],
            secret_sha256=bytes.fromhex(facts["secret_sha256"]),
            external_id_mac=None if mac is None else bytes.fromhex(mac),
            created_at=entry.at,
            created_by=entry.actor_id,
            expires_at=None if expires_at is None else datetime.fromisoformat(expires_at),
        )
    )
    return True


def _revoke_key(connection: Connection, entry: Entry) -> bool:
    changed = connection.execute(
        deposit_keys.update()
        .where(
            deposit_keys.c.id == entry.facts["deposit_key_id"],
            deposit_keys.c.revoked_at.is_(None),
        )
        .values(revoked_at=entry.at)
    )
    return changed.rowcount == 1


_APPLY: Final[Mapping[str, Callable[[Connection, Entry], bool]]] = {
    "campaign-created": _create_campaign,
    "campaign-opened": _open_campaign,
    "campaign-closed": _close_campaign,
    "policy-changed": _change_policy,
    "hold-placed": _place_hold,
    "restriction-set": _place_hold,
    "hold-lifted": _lift_hold,
    "restriction-lifted": _lift_hold,
    "deposit-key-issued": _issue_key,
    "deposit-key-revoked": _revoke_key,
    **RIGHTS,
}
