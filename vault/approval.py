"""Four eyes: what one person may not do alone, and how a second one agrees to exactly that.

``require`` either finds an approval of this very request, or leaves the request to be approved and
refuses. The requester then repeats the request unchanged; the act's own transaction uses the
approval up (``use``), so that it is good once. It ends 24 hours after it was asked for.

Bound to the request by SHA-256 of the canonical JSON {salt, kind, controller, requester, campaign,
request, reason}. The salt is 32 random bytes of the row: a short reason must not be guessable from
its digest. The reason itself is sealed in the ledger, under the recording's own leaf when there is
one; the row holds ids, counts, codes and digests only.

Does not protect against: two people who agree to do wrong. Both stand in the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import canonical, ids
from core.canonical import Json
from core.db import Database
from core.ports import Clock
from keys.model import Subject
from vault.access import Actor, check_reason
from vault.access_tables import approvals
from vault.errors import ApprovalConflict, ApprovalNotFound, ApprovalRequired
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.tables import campaigns

LIFETIME: Final = timedelta(hours=24)
SALT_BYTES: Final = 32
KINDS: Final = (
    "export",
    "erasure",
    "campaign-shred",
    "hold-release",
    "role-grant",
    "listen",
)
SUPERVISORS: Final = frozenset({"admin", "dpo", "auditor"})


@dataclass(frozen=True)
class Asked:
    """One exact request that wants a second person.

    Attributes:
        kind: one of ``KINDS``. request: what would be done; stored and shown to the approver.
        campaign_id: whose approvers may see it; None when it concerns no single campaign.
        subject: the recording's leaf, under which the reason is sealed.
        reason: the requester's words.
    """

    kind: str
    request: Mapping[str, Json]
    campaign_id: str | None = None
    subject: Subject | None = None
    reason: str | None = field(default=None, repr=False)

    def digest(self, actor: Actor, salt: bytes) -> bytes:
        """Return what binds an approval to this request of this person."""
        return canonical.digest(
            {
                "salt": salt.hex(),
                "kind": self.kind,
                "controller": actor.controller_id,
                "requester": actor.id,
                "campaign": self.campaign_id,
                "request": self.request,
                "reason": self.reason,
            }
        )


@dataclass(frozen=True)
class Approval:
    """An approval as the approver sees it; instants are aware UTC.

    Attributes:
        state: asked, approved, refused, used, or expired.
        request_sha256: 64 hexadecimal digits.
        reason: the requester's words while they live, or None.
    """

    id: str
    kind: str
    campaign_id: str | None
    request: Mapping[str, Json]
    request_sha256: str
    state: str
    requested_at: datetime
    requested_by: str
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    used_at: datetime | None
    reason: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Approvals:
    """Asks for, shows, decides and uses approvals; ``vault.approval_list`` lists them."""

    database: Database
    ledger: Ledger
    clock: Clock

    def require(self, actor: Actor, asked: Asked) -> str:
        """Return the id of an approval of exactly this request; call outside any transaction.

        Raises:
            ApprovalRequired: there is none yet; it has been asked for, in the ledger too. Facts
                ``approval_id``, ``address``, ``state``, ``expires_at``.
            LedgerUnavailable, KeyUnavailable: nothing was asked for.
        """
        with self.database.read() as connection:
            found = self._find_same(connection, actor, asked)
        row = self._ask(actor, asked) if found is None else dict(found)
        if row["state"] != "approved":
            raise _required(row)
        return str(row["id"])

    def use(self, connection: Connection, actor: Actor, approval_id: str) -> None:
        """Use an approval up in the transaction of the act.

        Raises:
            ApprovalRequired: it was used, or has expired, since ``require`` returned it.
        """
        now = self.database.now(connection)
        used = connection.execute(
            approvals.update()
            .where(
                approvals.c.id == approval_id,
                approvals.c.requested_by == actor.id,
                approvals.c.state == "approved",
                approvals.c.expires_at > now,
            )
            .values(state="used", used_at=now)
        )
        if used.rowcount != 1:
            raise ApprovalRequired(approval_id=approval_id, state="used")

    def decide(
        self,
        actor: Actor,
        approval_id: str,
        *,
        approve: bool,
        reason: str,
        account: str | None = None,
    ) -> Approval:
        """Agree to a request, or refuse it, as another person than the requester.

        Args:
            actor: who decides.
            approval_id: ``apr_`` id.
            approve: else it is refused.
            reason: why.
            account: whom the decider believes the request to be about, to be compared; who agrees
                to a right must name one.

        Raises:
            ReasonRequired. ApprovalNotFound: not in the actor's scope.
            ApprovalConflict: a machine's word, one's own request or account, another account than
                was named or none, decided already, or expired.
        """
        said = check_reason(reason)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            row = self._find(connection, actor, approval_id)
            now = self.database.now(connection)
            _check_decider(actor, row, now)
            _check_named(row, account, approve=approve)
            state = "approved" if approve else "refused"
            moved = connection.execute(
                approvals.update()
                .where(approvals.c.id == approval_id, approvals.c.state == "asked")
                .values(state=state, decided_at=now, decided_by=actor.id)
            )
            if moved.rowcount != 1:
                raise ApprovalConflict(approval_id=approval_id, reason="decided")
            self.ledger.append(connection, _decided(actor, row, state, said))
        return self.get(actor, approval_id)

    def get(self, actor: Actor, approval_id: str) -> Approval:
        """Return an approval with the requester's words.

        Raises:
            ApprovalNotFound: not in the actor's scope.
        """
        with self.database.read() as connection:
            row = self._find(connection, actor, approval_id)
            now = self.database.now(connection)
        return shown(row, now, self.ledger.narrative(row["requested_entry_id"]))

    def _find_same(self, connection: Connection, actor: Actor, asked: Asked) -> RowMapping | None:
        """Return the unused, unexpired approval of this request: an approved one first."""
        query = sa.select(approvals).where(
            approvals.c.controller_id == actor.controller_id,
            approvals.c.expires_at > self.database.now(connection),
            approvals.c.requested_by == actor.id,
            approvals.c.kind == asked.kind,
            approvals.c.state != "used",
        )
        rows = connection.execute(query.order_by(approvals.c.state, approvals.c.id)).mappings()
        for row in rows:  # "approved" sorts before "asked" and "refused"
            if asked.digest(actor, row["request_salt"]) == row["request_sha256"]:
                return row
        return None

    def _ask(self, actor: Actor, asked: Asked) -> dict[str, Any]:
        salt = self.clock.random_bytes(SALT_BYTES)
        row: dict[str, Any] = {
            "id": ids.from_bits("apr_", self.clock.random_bytes(ids.ID_BYTES)),
            "controller_id": actor.controller_id,
            "kind": asked.kind,
            "campaign_id": asked.campaign_id,
            "request": dict(asked.request),
            "request_salt": salt,
            "request_sha256": asked.digest(actor, salt),
            "state": "asked",
            "requested_by": actor.id,
        }
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            entry = self.ledger.append(connection, _requested(actor, asked, row))
            row |= {"requested_entry_id": entry.id, "requested_at": now}
            row["expires_at"] = now + LIFETIME
            connection.execute(approvals.insert().values(**row))
        return row

    def _find(self, connection: Connection, actor: Actor, approval_id: str) -> RowMapping:
        query = (
            sa.select(approvals, campaigns.c.slug)
            .outerjoin(campaigns, campaigns.c.id == approvals.c.campaign_id)
            .where(approvals.c.id == approval_id, approvals.c.controller_id == actor.controller_id)
        )
        row = connection.execute(query).mappings().one_or_none()
        if row is None or not _in_scope(actor, row):
            raise ApprovalNotFound
        return row


def _in_scope(actor: Actor, row: RowMapping) -> bool:
    """Tell whether somebody sees a request: their own, or as a supervisor of its campaign.

    One of no campaign is for supervisors of every campaign.
    """
    if row["requested_by"] == actor.id:
        return True
    if not actor.roles & SUPERVISORS:
        return False
    return actor.campaigns is None if row["slug"] is None else actor.covers(row["slug"])


def _check_decider(actor: Actor, row: RowMapping, now: datetime) -> None:
    own = {
        "own-request": row["requested_by"],
        "own-account": row["request"].get("account"),
    }
    if actor.kind != "person":  # somebody's program is no second person
        raise ApprovalConflict(approval_id=row["id"], reason="service")
    for reason, who in own.items():
        if who == actor.id:
            raise ApprovalConflict(approval_id=row["id"], reason=reason)
    if row["state"] != "asked":
        raise ApprovalConflict(approval_id=row["id"], reason="decided", state=row["state"])
    if row["expires_at"] <= now:
        raise ApprovalConflict(approval_id=row["id"], reason="expired")


def _check_named(row: RowMapping, account: str | None, *, approve: bool) -> None:
    """Compare whom the decider means with whom the request is about: a pseudonym tells nobody."""
    about = row["request"].get("account")
    if account is not None and account != about:
        raise ApprovalConflict(approval_id=row["id"], reason="another-account")
    if account is None and about is not None and approve:
        raise ApprovalConflict(approval_id=row["id"], reason="account-unnamed")


def _required(row: Mapping[str, Any]) -> ApprovalRequired:
    return ApprovalRequired(
        approval_id=row["id"],
        address=f"/v1/approvals/{row['id']}",
        state=row["state"],
        expires_at=row["expires_at"],
    )


def _requested(actor: Actor, asked: Asked, row: Mapping[str, Any]) -> Event:
    subject = asked.subject
    return Event(
        type="approval-requested",
        actor=actor,
        controller_id=actor.controller_id,
        campaign_id=asked.campaign_id,
        recording_id=None if subject is None else subject.recording_id,
        narrative=asked.reason,
        narrative_subject=subject if asked.reason is not None else None,
        outcome=asked.kind,
        facts={
            "approval": row["id"],
            "request": asked.request,
            "request_sha256": row["request_sha256"].hex(),
        },
    )


def _decided(actor: Actor, row: RowMapping, state: str, reason: str) -> Event:
    return Event(
        type="approval-decided",
        actor=actor,
        controller_id=actor.controller_id,
        campaign_id=row["campaign_id"],
        narrative=reason,
        outcome=state,
        facts={
            "approval": row["id"],
            "kind": row["kind"],
            "requested_by": row["requested_by"],
            "request_sha256": row["request_sha256"].hex(),
        },
    )


def shown(row: RowMapping, now: datetime, reason: str | None = None) -> Approval:
    """Return a row as its approver sees it at that instant."""
    over = row["expires_at"] <= now and row["state"] in {"asked", "approved"}
    names = Approval.__dataclass_fields__.keys() - {"reason", "request_sha256", "state"}
    return Approval(
        **{name: row[name] for name in names},
        request_sha256=row["request_sha256"].hex(),
        state="expired" if over else row["state"],
        reason=reason,
    )
