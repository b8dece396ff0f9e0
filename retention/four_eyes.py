"""Which acts of an officer want a second person: large erasures, campaigns, the end of a hold.

An erasure of one person, or of a few recordings, never does: GDPR Art. 17 gives a month, and one
officer must be able to keep it.

Does not protect against: an officer who plans a hundred recordings twice. Both plans are entries.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.engine import Connection

from core.canonical import Json
from retention.erasure_rows import Erasure
from retention.hold_rows import Hold
from vault.access import Actor
from vault.approval import Approvals, Asked


@dataclass(frozen=True)
class Agreed:
    """A second person's word, to be used up with the act; nothing where none was needed."""

    approvals: Approvals | None = None
    actor: Actor | None = None
    approval_id: str = ""

    def use(self, connection: Connection) -> None:
        """Use it up in the act's own transaction.

        Raises:
            ApprovalRequired: it was used, or has expired, meanwhile; roll back.
        """
        if self.approvals is not None and self.actor is not None:
            self.approvals.use(connection, self.actor, self.approval_id)


@dataclass(frozen=True)
class FourEyes:
    """Asks for the second person.

    Attributes:
        above: erasures of more recordings than this want one.
    """

    approvals: Approvals
    above: int

    def erasure(self, actor: Actor, erasure: Erasure) -> Agreed:
        """Return the word on a plan that wants one; bound to the plan's digest.

        Raises:
            ApprovalRequired: it has been asked for.
        """
        whole = erasure.kind == "campaign"
        if not whole and erasure.planned_count <= self.above:
            return Agreed()
        asked: dict[str, Json] = {
            "erasure": erasure.id,
            "kind": erasure.kind,
            "legal_ground": erasure.legal_ground,
            "plan_digest": erasure.plan_digest,
            "recordings": erasure.planned_count,
        }
        kind = "campaign-shred" if whole else "erasure"
        return self._asked(actor, Asked(kind, asked, erasure.campaign_id))

    def release(self, actor: Actor, hold: Hold) -> Agreed:
        """Return the word on the end of a hold or a restriction.

        Raises:
            ApprovalRequired: it has been asked for.
        """
        asked: dict[str, Json] = {
            "hold": hold.id,
            "kind": hold.kind,
            "scope": hold.scope,
            "recordings": len(hold.recording_ids),
            "from_restore": hold.from_restore,
        }
        return self._asked(actor, Asked("hold-release", asked, hold.campaign_id))

    def _asked(self, actor: Actor, asked: Asked) -> Agreed:
        return Agreed(self.approvals, actor, self.approvals.require(actor, asked))
