"""One entry of the ledger as a restore applies it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Entry:
    """A decision: who, when, about what; ``facts`` as they stand in the ledger."""

    id: str
    type: str
    controller_id: str
    campaign_id: str | None
    actor_id: str
    at: datetime
    facts: Mapping[str, Any]
