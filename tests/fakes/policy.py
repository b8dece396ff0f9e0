"""A policy that is complete, as a data protection officer would put it for a campaign."""

from __future__ import annotations

from typing import Final

POLICY: Final = {
    "retention": "P6M",
    "legal_basis": "legitimate-interests",
    "balancing_text": "Six months let one quarter be compared with the one before it.",
    "listen_purposes": ["quality-control"],
    "countries": ["FR"],
}
