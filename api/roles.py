"""What a process of the service does: take requests, do the work behind them, or both.

``all`` is one process for everything. In a cluster ``api`` processes take requests and scale with
them, and ``worker`` processes end what must end: erasures, the sweep, recovery, the anchor. A
worker answers only health, readiness and figures. What a process needs for its own sake (leases,
the ledger's order, its own uploads and listens) runs in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Role = Literal["all", "api", "worker"]
ROLES: Final[tuple[Role, ...]] = ("all", "api", "worker")
BOTH: Final[frozenset[Role]] = frozenset({"all", "api", "worker"})
TAKES_REQUESTS: Final[frozenset[Role]] = frozenset({"all", "api"})
ENDS_WORK: Final[frozenset[Role]] = frozenset({"all", "worker"})

# background thread -> the roles it runs in
WORK: Final[Mapping[str, frozenset[Role]]] = {
    "leases": BOTH,
    "lease-ends": BOTH,
    # every process orders entries in turns: listens must not wait for a worker that is down
    "sequencer": BOTH,
    "attempts": TAKES_REQUESTS,
    # a worker closes what a process that is gone left open
    "listens": BOTH,
    # as it does the searches
    "searches": BOTH,
    "erasures": ENDS_WORK,
    "work-lease": ENDS_WORK,
    "scheduler": ENDS_WORK,
    "anchor": ENDS_WORK,
    "figures": BOTH,
}
