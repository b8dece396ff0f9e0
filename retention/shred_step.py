"""Steps 2 to 7 of an erasure, asked of ``keys.shred``, and what they did written to the erasure.

Until a provider has confirmed, the erasure is ``waiting-key-provider``: nothing is certified and
the recordings stay unheard. A crash between the destruction and the row repeats it: the targets are
gone already, the keys are confirmed anew, and the instant noted is the later one.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import KeysError
from keys.model import CONTROLLER_PREFIX, NodeRange, ShredOutcome
from keys.shred import Shredder
from retention import erasure_rows
from retention.erasure_rows import UNFINISHED, Erasure
from vault import campaign as campaigns_of
from vault.attempt_rows import unpunctured
from vault.tables import recordings

_DEAD_MAX: Final = 10_000
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ShredStep:
    """Destroys the keys of one erasure."""

    database: Database
    shredder: Shredder

    def take(self, erasure: Erasure) -> bool:
        """Destroy the keys unless they are destroyed; tell whether the erasure may go on.

        False leaves it waiting for the key provider, to be run again: one that does not answer,
        does not confirm, or answers with other bytes than it was given.
        """
        targets = [] if erasure.destroyed_at is not None else self._targets(erasure)
        if not targets:
            return True
        try:
            outcome = self.shredder.puncture(erasure.controller_id, targets)
            if outcome.pointer.key_id in erasure.destroyed_key_ids:
                # every target was gone before step 1: nothing destroyed the key that it noted
                outcome = self.shredder.renew_epoch(erasure.controller_id)
        except (KeysError, IntegrityFailure) as err:
            facts = {"erasure_id": erasure.id, "code": err.code}
            _LOG.exception("key-provider-waits", extra=facts)
            self._move(erasure.id, "waiting-key-provider")
            return False
        self._keep(erasure, outcome)
        return True

    def _targets(self, erasure: Erasure) -> list[NodeRange]:
        with self.database.read() as connection:
            if erasure.kind == "campaign":
                campaign = campaigns_of.find(
                    connection, erasure.controller_id, str(erasure.campaign_id)
                )
                return [NodeRange.campaign(campaign.prefix)]
            query = sa.select(recordings.c.prefix, recordings.c.leaf_index).where(
                recordings.c.erasure_id == erasure.id
            )
            targets = [
                NodeRange.leaf(row.prefix, row.leaf_index) for row in connection.execute(query)
            ]
            if targets:
                targets += self._dead_attempts(connection, erasure)
        if erasure.person_index is not None and erasure.rerun_state != "waiting":
            targets.append(NodeRange.leaf(CONTROLLER_PREFIX, erasure.person_index))
        return targets

    def _dead_attempts(self, connection: Connection, erasure: Erasure) -> list[NodeRange]:
        """Return the leaves of attempts that ended: one may be a first try at what is erased here.

        Left to the next sweep, its upload would open after the certificate. The sweep still notes
        them as punctured; where more than these wait, it is behind and takes the rest.
        """
        ended = unpunctured(connection, erasure.controller_id, limit=_DEAD_MAX)
        return [attempt.leaf for attempt in ended]

    def _keep(self, erasure: Erasure, outcome: ShredOutcome) -> None:
        """Note what was destroyed: the key of step 1 at least, also when a repeat did nothing."""
        keys = dict.fromkeys((*erasure.destroyed_key_ids, *outcome.destroyed_key_ids))
        providers = dict.fromkeys((*erasure.provider_uris, *outcome.provider_uris))
        self._move(
            erasure.id,
            "running",
            destroyed_at=outcome.destroyed_at,
            epoch_after=outcome.pointer.epoch,
            destroyed_key_ids=list(keys),
            provider_uris=list(providers),
            limits=list(outcome.limits),
        )

    def _move(self, erasure_id: str, state: str, **values: Any) -> None:
        with self.database.transaction() as connection:
            erasure_rows.move(connection, erasure_id, before=UNFINISHED, after=state, **values)
