"""Measures everything in one run and prints one page of ratios; JSON and a picture in build/.

    python -m bench [NAME ...] [--quick | --long]

Each benchmark is a module of this folder with ``figures``. What happens now goes to standard error.
A benchmark whose other side is missing on this machine (nginx, PostgreSQL) is skipped by name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.figure import Run
from bench.kept import BASELINE, against_lines, ratios, read_kept
from bench.machine import machine, versions
from bench.page import Page, part_lines
from bench.plot import svg
from bench.process import run_apart
from tests.services.servers import MissingError, Servers

NAMES: Final = (
    "sealing",
    "deposit",
    "memory",
    "listen",
    "s3_clients",
    "erasing",
    "erasing_blobs",
    "erasing_providers",
    "sweeping",
    "ledger_appends",
    "ledger_proofs",
    "profile",
)
OUTPUT: Final = Path("build") / "bench.json"
_BUSY_SHARE: Final = 0.5


def main(arguments: list[str]) -> int:
    """Run the chosen benchmarks, or all; return 1 when one failed or a bound does not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="a look in a minute")
    parser.add_argument("--long", action="store_true", help="the largest sizes too")
    parser.add_argument("--json", type=Path, default=OUTPUT, metavar="FILE", help="%(default)s")
    parser.add_argument(
        "--against", type=Path, default=BASELINE, metavar="FILE", help="an earlier run's JSON"
    )
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.names) - set(NAMES))
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    names = [name for name in NAMES if name in given.names] or list(NAMES)
    page = _measured(names, quick=given.quick, long=given.long)
    kept = read_kept(given.against)
    print("\n".join(against_lines(page, kept)), flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(page.json(), indent=1) + "\n")
    given.json.with_suffix(".svg").write_text(svg(page, ratios(kept)))
    return 0 if page.passed else 1


def _measured(names: list[str], *, quick: bool, long: bool) -> Page:
    with _postgresql(wanted="ledger_appends" in names) as uri:
        began_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        page = Page(began_at, quick, machine(), versions(uri))
        if os.getloadavg()[0] > _BUSY_SHARE * (os.cpu_count() or 1):
            page.notes.append("other programs were busy on this machine: trust no small difference")
        if not uri and "ledger_appends" in names:
            page.notes.append("skipped: no PostgreSQL on this machine")
        print("\n".join(page.head()), flush=True)
        for name in names:
            page.parts.append(run_apart(name, Run(quick, uri, long=long)))
            print("\n".join(part_lines(page.parts[-1])), flush=True)
    return page


@contextmanager
def _postgresql(*, wanted: bool) -> Iterator[str]:
    """Start a durable PostgreSQL; yields its URI, or nothing where there is none."""
    os.environ["PGTEST_DURABLE"] = "1"
    servers = Servers()
    try:
        uri = servers.postgresql() if wanted else ""
    except MissingError:
        uri = ""
    try:
        yield uri
    finally:
        servers.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
