"""The arithmetic of ``docs/scale.md``: from a call centre's size to what each part has to bear.

    python -m bench.capacity [--agents N]

Every figure is a product of the load and of a cost that was measured; ``COSTS`` names each once.
A test holds the page to what this prints.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

WORKING_S: Final = 8 * 3_600
DAYS_HELD: Final = 126
DAYS_A_YEAR: Final = 252
PEAK: Final = 2
LISTENED: Final = 0.02


@dataclass(frozen=True)
class Costs:
    """What one of each takes, as measured on one core (``docs/bench.md``, ``docs/scale.md``).

    Attributes:
        deposit_ms, store_ms: CPU of one deposit of 480 KB, and of its PUT to an S3 store.
        listen_ms: CPU of 8 MB played to the end.
        call_bytes: a minute of A-law. recording_bytes, attempt_bytes, entry_bytes, tag_bytes: rows
            of PostgreSQL with their indexes.
        leaf_bytes: of the ledger's files. wal_bytes: of a deposit.
    """

    deposit_ms: float = 8.0
    store_ms: float = 4.8
    listen_ms: float = 20.0
    call_bytes: int = 480_000
    recording_bytes: int = 1_160
    attempt_bytes: int = 980
    entry_bytes: int = 2_020
    tag_bytes: int = 310
    leaf_bytes: int = 152
    wal_bytes: int = 7_700


COSTS: Final = Costs()


@dataclass(frozen=True)
class Load:
    """A call centre."""

    agents: int = 10_000
    calls_a_day_each: int = 80

    @property
    def calls_a_day(self) -> int:
        """Return the deposits of a working day."""
        return self.agents * self.calls_a_day_each

    @property
    def calls_s(self) -> float:
        """Return the deposits of a second, spread over the working day."""
        return self.calls_a_day / WORKING_S

    @property
    def held(self) -> int:
        """Return the recordings held at any time, six months' worth."""
        return self.calls_a_day * DAYS_HELD

    @property
    def listens_a_day(self) -> float:
        """Return how many are heard."""
        return self.calls_a_day * LISTENED

    @property
    def entries_a_day(self) -> float:
        """Return the ledger's entries: a deposit, an end, and two for each listen."""
        return 2 * self.calls_a_day + 2 * self.listens_a_day


def rows(load: Load, costs: Costs = COSTS) -> dict[str, str]:
    """Return each figure as the page spells it, by what it is."""
    peak = PEAK * load.calls_s
    year = load.entries_a_day * DAYS_A_YEAR
    return {
        "calls a day": f"{_spaced(load.calls_a_day)} a day",
        "deposits a second": f"{load.calls_s:.0f} a second over eight hours",
        "at the peak": f"{peak:.0f} at a peak of twice that",
        "held": f"{load.held / 1e6:.0f} million recordings",
        "audio held": f"{load.held * costs.call_bytes / 1e12:.0f} TB at one minute",
        "audio held, three minutes": f"{3 * load.held * costs.call_bytes / 1e12:.0f} TB at three",
        "heard": f"{_spaced(load.listens_a_day)} listens a day",
        "entries a day": f"{load.entries_a_day / 1e6:.2f} million entries a day",
        "entries a year": f"{year / 1e6:.0f} million in {DAYS_A_YEAR} working days",
        "deposit CPU": f"{peak * (costs.deposit_ms + costs.store_ms) / 1e3:.1f} of a core",
        "one core": f"{1e3 / (costs.deposit_ms + costs.store_ms):.0f} a second",
        "rows of recordings": f"{load.held * costs.recording_bytes / 1e9:.0f} GB of recordings",
        "rows of attempts": f"{load.held * costs.attempt_bytes / 1e9:.0f} GB of attempts",
        "rows of tags": f"{load.held * costs.tag_bytes / 1e9:.0f} GB of external ids",
        "rows of entries": f"{year * costs.entry_bytes / 1e12:.2f} TB of entries a year",
        "WAL": f"{load.calls_a_day * costs.wal_bytes / 1e9:.1f} GB of WAL a day",
        "WAL at the peak": f"{peak * costs.wal_bytes / 1e6:.1f} MB/s",
        "ledger files": f"{year * costs.leaf_bytes / 1e9:.0f} GB a year",
        "PUTs": f"{_spaced(load.calls_a_day)} PUTs and as many DELETEs a day",
        "deletion": f"{load.calls_a_day / 1_000 * 0.64 / 60:.0f} minutes a day",
    }


def main(arguments: Sequence[str]) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m bench.capacity")
    parser.add_argument("--agents", type=int, default=Load.agents)
    for what, told in rows(Load(parser.parse_args(arguments).agents)).items():
        print(f"{what:<28}{told}")
    return 0


def _spaced(number: float) -> str:
    return f"{number:,.0f}".replace(",", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
