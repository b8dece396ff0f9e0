"""Step-up: an act that cannot be undone wants a log-in that is strong and fresh.

The token must say how (``acr``, one of those configured) and when (``auth_time``, at most five
minutes ago) the person authenticated. A refusal carries RFC 9470's challenge, with which a client
sends the person to the issuer again.

Without configured values nothing is asked for: production mode refuses to start so.

Source: RFC 9470 sections 3 and 4; OpenID Connect Core 1.0 section 2 (``acr``, ``auth_time``).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from api.errors import StepUpRequired
from vault.access import Actor

AGE_MAX_S: Final = 300
_LEEWAY: Final = timedelta(seconds=30)


def check_step_up(actor: Actor, acr_values: Sequence[str], *, now: datetime) -> None:
    """Refuse an authentication that is too weak, too old, or not told.

    Args:
        actor: as the token says.
        acr_values: those that are strong enough; none asks for nothing.
        now: aware UTC.

    Raises:
        StepUpRequired: facts ``acr_values`` and ``max_age_s`` for the challenge.
    """
    if not acr_values:
        return
    fresh = (
        actor.auth_at is not None
        and actor.auth_at <= now + _LEEWAY
        and now - actor.auth_at <= timedelta(seconds=AGE_MAX_S)
    )
    if not fresh or actor.acr not in acr_values:
        raise StepUpRequired(acr_values=" ".join(acr_values), max_age_s=AGE_MAX_S)
