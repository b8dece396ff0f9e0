"""What the doctor sees of rights: a fresh log-in, what a right is, how many may give one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from api.finding import Finding
from api.service import Service

ADMINS_MANY: Final = 5


def rights_findings(service: Service) -> Iterator[Finding]:
    """Yield what settings and accounts say about rights.

    Raises:
        DatabaseUnavailable: nothing answers.
    """
    settings = service.settings
    if settings.oidc_step_up_acr:
        shown = " ".join(settings.oidc_step_up_acr)
        yield Finding("ok", "step-up", f"acts that cannot be undone want a log-in by {shown}")
    else:
        text = "nobody is asked to log in again before an erasure, a hold or a right is given"
        yield Finding("warn", "step-up", text)
    if settings.grants == "required":
        yield Finding("ok", "grants", "a listen wants a grant within what the token says")
    else:
        text = "a token's claims are the right to listen; grants are not asked for"
        yield Finding("warn" if settings.production else "ok", "grants", text)
    yield _admins(service.account_views.admins())


def _admins(count: int) -> Finding:
    text = f"{count} accounts are admins"
    return Finding("warn" if count > ADMINS_MANY else "ok", "admins", text)
