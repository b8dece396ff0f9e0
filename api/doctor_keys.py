"""What the doctor sees of key providers: whether each answers, and which erasures wait for one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.finding import Finding
from api.service import Service
from core.errors import OublietteError
from keys.ports import KeyProvider
from retention.tables import erasures
from vault.tables import recordings

_HSM: Final = "hsm-backups"
_WAITING: Final = "waiting-key-provider"
_SHOWN: Final = 3


def provider_findings(service: Service) -> Iterator[Finding]:
    """Yield what is found; every provider is asked, and nothing is changed.

    Raises:
        DatabaseUnavailable: no answer.
    """
    for provider in service.ports.providers:
        yield _answers(provider, service.ports.vault.ledger_controller_id)
    yield from _backups(service)
    with service.ports.database.read() as connection:
        yield _waiting(connection)


def _answers(provider: KeyProvider, controller_id: str) -> Finding:
    try:
        provider.list_keys(controller_id)
    except OublietteError as err:
        what = err.facts.get("what", err.code)
        text = f"{provider.uri} does not answer ({what}): erasures wait; see docs/epoch-keys.md"
        return Finding("fail", "key-provider", text)
    return Finding("ok", "key-provider", f"{provider.uri} answers")


def _backups(service: Service) -> Iterator[Finding]:
    hsms = [one.uri for one in service.ports.providers if _HSM in one.limits]
    policy = service.settings.hsm_backup_policy
    if hsms and not policy:
        text = (
            f"{', '.join(hsms)}: how long do backups of the HSM keep a destroyed key? "
            "Certificates print HSM_BACKUP_POLICY; it is not set"
        )
        yield Finding("warn", "hsm-backups", text)
    elif hsms:
        yield Finding("ok", "hsm-backups", f"certificates say: {policy}")


def _waiting(connection: Connection) -> Finding:
    """Name the erasures that a provider keeps waiting, and count their recordings."""
    query = (
        sa.select(erasures.c.id)
        .where(erasures.c.state == _WAITING)
        .order_by(erasures.c.approved_at, erasures.c.id)
    )
    waiting = list(connection.execute(query).scalars())
    if not waiting:
        return Finding("ok", "erasures", "no erasure waits for a key provider")
    counted = (
        sa.select(sa.func.count())
        .select_from(recordings)
        .where(recordings.c.erasure_id.in_(sa.select(erasures.c.id).filter_by(state=_WAITING)))
    )
    count = connection.execute(counted).scalar_one()
    named = ", ".join(waiting[:_SHOWN]) + (" ..." if len(waiting) > _SHOWN else "")
    text = (
        f"{len(waiting)} erasures of {count} recordings wait for a key provider ({named}): nobody "
        "hears them, nothing is certified; they go on by themselves once it answers"
    )
    return Finding("fail", "erasures", text)
