"""Whether the database's clock is believed, before anything ends by it for good.

What a sweep destroys because its time has come is gone whatever the clock says next: recordings,
weeks of external ids, months of the ledger. A month that has not come yet is the worst of them: its
leaf is the one that the ledger will have to seal with, so nothing could be heard or deposited then.

So a sweep that finds the clock more than ``ABSENCE_MAX`` beyond what was believed last ends nothing
by time. Either no sweep ran for so long, or the clock is wrong: a person looks, and says which
(``oubliette sweep --trust-clock``).

What was believed last is the row of ``sweep_runs`` that is no campaign's, and goes back only when a
person says so; a vault that has none yet believes its newest ledger entry. A sweep by a clock
behind keeps everything longer, so it may run. A deposit may not: a call without a start of its own
would be as old as the clock says, and the first sweep by the right clock would take it for overdue.

Does not protect against: a clock that was wrong from the first start on, or that is at most
``ABSENCE_MAX`` ahead or ``BEHIND_MAX`` behind.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from core import ids
from core.db import Database
from retention.errors import ClockDoubtful
from retention.tables import sweep_runs
from vault.tables import ledger_entries

ABSENCE_MAX: Final = timedelta(days=31)
BEHIND_MAX: Final = timedelta(days=1)
_NO_CAMPAIGN: Final = ""
_RUN_ID: Final = ids.from_bits("run_", bytes(ids.ID_BYTES))
_MINE: Final = sweep_runs.c.campaign_id == _NO_CAMPAIGN
# built once: every deposit asks
_KEPT: Final = sa.select(sweep_runs.c.ran_at).where(_MINE)


def check(database: Database, *, trusted: bool) -> None:
    """Believe the database's clock, and remember what it says.

    Args:
        database: whose clock.
        trusted: a person has looked at it: whatever was believed is forgotten.

    Raises:
        ClockDoubtful: it is too far ahead of what was believed last; nothing was remembered.
    """
    # the first row may be another process's meanwhile: it believed the same clock
    with contextlib.suppress(IntegrityError), database.transaction() as connection:
        now = database.now(connection)
        believed = _believed(connection)
        if believed is not None and now - believed > ABSENCE_MAX and not trusted:
            raise ClockDoubtful(believed_at=believed, now=now, most_days=ABSENCE_MAX.days)
        _remember(connection, now if trusted or believed is None else max(now, believed))


def check_deposit(connection: Connection, now: datetime) -> None:
    """Refuse to date a call by a clock that was later before; ``now`` is what it says.

    Raises:
        ClockDoubtful: it is more than a day behind what was believed last.
    """
    believed: datetime | None = connection.execute(_KEPT).scalar()
    if believed is not None and believed - now > BEHIND_MAX:
        raise ClockDoubtful(believed_at=believed, now=now, most_days=BEHIND_MAX.days)


def _believed(connection: Connection) -> datetime | None:
    kept: datetime | None = connection.execute(_KEPT).scalar()
    if kept is not None:
        return kept
    newest: datetime | None = connection.execute(
        sa.select(sa.func.max(ledger_entries.c.queued_at, type_=ledger_entries.c.queued_at.type))
    ).scalar()
    return newest


def _remember(connection: Connection, now: datetime) -> None:
    if connection.execute(sweep_runs.update().where(_MINE).values(ran_at=now)).rowcount:
        return
    row: dict[str, Any] = {
        "id": _RUN_ID,
        "campaign_id": _NO_CAMPAIGN,
        "ran_at": now,
        "due_count": 0,
        "erased_count": 0,
        "forecast_count": 0,
    }
    connection.execute(sweep_runs.insert().values(**row))
