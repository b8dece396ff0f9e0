"""Rights on a timer: reviews begin and close, silent accounts are suspended."""

from __future__ import annotations

from dataclasses import dataclass

from api.directory import controller_ids
from api.observability import fault_fields, log
from api.wiring_rights import Entitling
from core.db import Database
from core.errors import OublietteError


@dataclass(frozen=True)
class RightsJob:
    """Upkeep of accounts and grants; a controller that fails does not keep the others waiting."""

    database: Database
    entitling: Entitling

    def run(self) -> None:
        """Run it once for every controller."""
        for controller_id in controller_ids(self.database):
            try:
                self.entitling.account_reviews.upkeep(controller_id)
                self.entitling.accounts.suspend_dormant(controller_id)
                self.entitling.accounts.forget_sessions(controller_id)
            except OublietteError as error:
                log().warning("rights-upkeep-waits", **fault_fields(error))
