"""What a grant gives and how an account stands: facts of one instant.

A grant is a right of one account. It is *given*, *confirmed* at each account review, and ends by
its window, by its cap, when a review passes without a word on it (*lapsed*), or when it is
*revoked*.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Grant:
    """One right of one account, as its row says; instants are aware UTC.

    Attributes:
        company: the token must say the same one.
        campaign_id: None is every campaign of the controller.
        from_at, until_at: the window, its end excluded; None has no end of its own.
        listens_max, listens_used: a cap, None without one.
        review_due_at: an account review under way; unconfirmed by then, the grant has lapsed.
        frozen: a freeze of this grant is in force.
    """

    id: str
    company: str
    role: str
    campaign_id: str | None
    purposes: frozenset[str]
    from_at: datetime
    until_at: datetime | None = None
    listens_max: int | None = None
    listens_used: int = 0
    review_due_at: datetime | None = None
    lapsed_at: datetime | None = None
    revoked_at: datetime | None = None
    frozen: bool = False

    def ended_why(self, now: datetime) -> str | None:
        """Return why the grant gives nothing at this instant, None when it is in force."""
        if self.revoked_at is not None:
            return "grant-revoked"
        if self.frozen:
            return "grant-frozen"
        overdue = self.review_due_at is not None and self.review_due_at <= now
        if self.lapsed_at is not None or overdue:
            return "grant-lapsed"
        if now < self.from_at:
            return "grant-not-begun"
        if self.until_at is not None and now >= self.until_at:
            return "grant-ended"
        return None

    @property
    def listens_left(self) -> int | None:
        """Return how many listens the cap leaves, None without a cap."""
        return None if self.listens_max is None else max(0, self.listens_max - self.listens_used)


@dataclass(frozen=True)
class Standing:
    """How an account stands at one instant.

    Attributes:
        now: the database's clock, aware UTC.
        grants: every grant of the account, or None where a token's claims are the right.
        frozen: a freeze of the account, of this campaign, or of everything is in force.
        suspended: the account is.
    """

    now: datetime
    grants: tuple[Grant, ...] | None = None
    frozen: bool = False
    suspended: bool = False


@dataclass(frozen=True)
class Permit:
    """What allows a listen.

    Attributes:
        role: under which the actor listens. grant_id: None where claims are the right.
        second_person: the purpose is sensitive, so somebody else must agree first.
    """

    role: str
    grant_id: str | None = None
    second_person: bool = False
