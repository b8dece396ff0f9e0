"""``oubliette doctor``: what is well, what to look at, what must be done.

A finding is ``ok``, ``warn`` (a limit of this set-up, or soon a problem) or ``fail`` (act now; exit
code 1). Findings name folders, stores and counts; never a key, a person or a caller's words.

Does not protect against: what it cannot see, such as snapshots that the machine below it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from api.doctor_canary import canary_finding
from api.doctor_database import database_findings
from api.doctor_keys import provider_findings
from api.doctor_machine import machine_findings
from api.doctor_rights import rights_findings
from api.doctor_vault import vault_findings
from api.doctor_walls import wall_findings
from api.finding import Finding
from api.settings import Settings
from api.wiring import assemble, open_ports
from core.errors import OublietteError


def examine(settings: Settings) -> list[Finding]:
    """Return every finding; a part that cannot be examined is a finding itself."""
    found = list(machine_findings(settings))
    try:
        service = assemble(open_ports(settings), settings)
    except OublietteError as error:
        return [*found, Finding("fail", "open", str(error))]
    try:
        found += _safely("vault", lambda: vault_findings(service))
        found += _safely("walls", lambda: wall_findings(service.ports.database))
        found += _safely("rights", lambda: rights_findings(service))
        found += _safely("key-provider", lambda: provider_findings(service))
        found += _safely("durability", lambda: database_findings(service.ports.database))
        found.append(canary_finding(settings.public_url))
    finally:
        service.keyring.close()
        service.ports.database.close()
    return found


def _safely(check: str, look: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(look())
    except OublietteError as error:
        return [Finding("fail", check, str(error))]
