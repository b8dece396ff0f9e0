"""``oubliette serve`` with two promises broken, for negative controls of the soak.

Answers go out before their ledger entry is written (``careless_service``), and an erasure is called
done when it was asked for, though nothing was erased.
"""

from __future__ import annotations

import dataclasses

from api.cli import main
from retention.erase import Erase
from retention.erasure_rows import Erasure
from tests.fakes.careless_service import insert_late
from vault.access import Actor
from vault.ledger.append import Ledger

true_state = Erase.get


def said_done(self: Erase, actor: Actor, erasure_id: str) -> Erasure:
    """Say that an erasure is done."""
    return dataclasses.replace(true_state(self, actor, erasure_id), state="done")


def not_begun(self: Erase, actor: Actor, erasure_id: str, plan_digest: str) -> Erasure:
    """Say that an erasure has begun."""
    del plan_digest
    return true_state(self, actor, erasure_id)


if __name__ == "__main__":
    Ledger._insert = insert_late  # type: ignore[method-assign]
    Erase.get = said_done  # type: ignore[method-assign]
    Erase.execute = not_begun  # type: ignore[method-assign]
    main()
