"""Asking the issuer again about a running session: once, whoever of many requests is first."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from api.console import session_rows as rows
from api.console.issuers_word import IssuersWord, without_bindings
from api.console.session_rows import SessionRow
from api.console.session_seal import Known, find_by_secret, known_of, sealed
from api.errors import IssuerUnavailable, LogInFailed, Unauthenticated
from core.db import Database
from core.ports import Clock
from core.scope import for_all_controllers

TURN: Final = timedelta(seconds=6)
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class Renewal:
    """Renews what a session knows."""

    database: Database
    clock: Clock
    word: IssuersWord

    def renewed(self, row: SessionRow, secret: str, known: Known) -> Known:
        """Ask the issuer again; one request does, the others wait for what it learns.

        Raises:
            Unauthenticated: the issuer no longer vouches for them; the session is gone.
            IssuerUnavailable.
        """
        if self.word.provider is None or not known.refresh_token:
            raise Unauthenticated(reason="session-ended")
        with for_all_controllers():
            mine = rows.take_turn(self.database, row, now=self.clock.now(), turn=TURN)
        if not mine:
            return self._learnt_elsewhere(row, secret)
        try:
            tokens = self.word.provider.refresh(known.refresh_token)
            claims = self.word.checked(tokens.id_token, subject=known.claims["sub"])
        except (LogInFailed, Unauthenticated) as err:
            with for_all_controllers():
                rows.delete(self.database, row.secret_sha256)
            raise Unauthenticated(reason="session-ended") from err
        except IssuerUnavailable:
            with for_all_controllers():
                rows.give_turn_back(self.database, row.secret_sha256)
            raise
        kept = Known(without_bindings({**known.claims, **claims}, claims), tokens.refresh_token)
        with for_all_controllers():
            rows.renew(
                self.database,
                sealed(row, secret, kept, self.clock),
                fresh_until=self.word.fresh_until(claims),
            )
        return kept

    def _learnt_elsewhere(self, row: SessionRow, secret: str) -> Known:
        """Wait for the request that asks the issuer."""
        deadline_s = self.clock.boottime_s() + TURN.total_seconds()
        while self.clock.boottime_s() < deadline_s:
            time.sleep(_POLL_S)
            found = find_by_secret(self.database, secret)
            if found is None:
                raise Unauthenticated(reason="session-ended")
            if found.fresh_until > row.fresh_until:
                return known_of(found, secret)
        raise IssuerUnavailable
