"""What an officer asks to erase, and on what ground."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from core.errors import InvalidRequest
from vault.access import check_reason

Kind = Literal["recording", "list", "person", "campaign", "expiry"]
LIST_MAX: Final = 1_000
LEGAL_GROUNDS: Final = (
    "retention-ended",  # GDPR Art. 5(1)(e)
    "no-longer-needed",  # Art. 17(1)(a)
    "consent-withdrawn",  # Art. 17(1)(b)
    "objection",  # Art. 17(1)(c), 21
    "unlawful-processing",  # Art. 17(1)(d)
    "legal-obligation",  # Art. 17(1)(e)
    "end-of-mission",  # Art. 28(3)(g)
)


@dataclass(frozen=True)
class Target:
    """What is to be erased: made by one of the class methods."""

    kind: Kind
    recording_ids: tuple[str, ...] = ()
    number: str | None = field(default=None, repr=False)
    campaign_ref: str | None = None

    @classmethod
    def recording(cls, recording_id: str) -> Target:
        """One recording."""
        return cls("recording", recording_ids=(recording_id,))

    @classmethod
    def recordings(cls, recording_ids: tuple[str, ...]) -> Target:
        """A list of at most ``LIST_MAX`` recordings."""
        return cls("list", recording_ids=recording_ids)

    @classmethod
    def person(cls, number: str) -> Target:
        """Every recording of a number, later ones of uploads under way included."""
        return cls("person", number=number)

    @classmethod
    def campaign(cls, ref: str) -> Target:
        """A closed campaign as a whole: its key node is punctured."""
        return cls("campaign", campaign_ref=ref)

    @classmethod
    def expiry(cls, ref: str) -> Target:
        """Whatever of a campaign is past its deadline now."""
        return cls("expiry", campaign_ref=ref)


@dataclass(frozen=True)
class ErasureRequest:
    """A target, its legal ground and why; nothing in it is trusted before ``check``."""

    target: Target
    legal_ground: str
    reason: str = field(repr=False)

    def check(self) -> str:
        """Return the tidied reason of a well-formed request.

        Raises:
            ReasonRequired, InvalidRequest.
        """
        target = self.target
        listed = len(target.recording_ids)
        whole = {
            "recording": listed == 1,
            "list": 1 <= listed <= LIST_MAX and len(set(target.recording_ids)) == listed,
            "person": bool(target.number and target.number.strip()),
            "campaign": bool(target.campaign_ref),
            "expiry": bool(target.campaign_ref),
        }
        if not whole.get(target.kind):
            raise InvalidRequest(what="erasure-target", most=LIST_MAX)
        if self.legal_ground not in LEGAL_GROUNDS:
            raise InvalidRequest(what="legal-ground")
        return check_reason(self.reason)
