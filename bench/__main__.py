"""Runs every benchmark of this folder, one after the other, each in a process of its own.

    python -m bench [NAME ...]

A benchmark is a module that prints its ratios when it runs as a program. PostgreSQL is started,
with fsync on, for those that want one and where the machine has it.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.services.servers import MissingError, Servers

HERE: Final = Path(__file__).parent
POSTGRESQL: Final = "OUBLIETTE_BENCH_POSTGRESQL"


def main(chosen: list[str]) -> int:
    """Run the chosen benchmarks, or all; return 1 when one of them failed."""
    known = sorted(path.stem for path in HERE.glob("*.py") if "__main__" in path.read_text())
    known.remove("__main__")
    names = chosen or known
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; ratios count, absolute figures are this machine's"
    )
    with postgresql() as uri:
        failed = [name for name in names if not passed(name, uri)]
    return 1 if failed else 0


def passed(name: str, postgresql_uri: str) -> bool:
    """Run one benchmark; tell whether it ended well."""
    source = (HERE / f"{name}.py").read_text()
    title = source.removeprefix('"""').splitlines()[0]
    print(f"\n== {name}: {title}", flush=True)
    # only where it is wanted: the service refuses OUBLIETTE_ variables that it does not know
    wanted = postgresql_uri and POSTGRESQL in source
    environment = {**os.environ, **({POSTGRESQL: postgresql_uri} if wanted else {})}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{name}"], cwd=HERE.parent, env=environment, check=False
    )
    print(f"({time.monotonic() - began:.0f} s{'' if done.returncode == 0 else ', FAILED'})")
    return done.returncode == 0


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a durable PostgreSQL; yields its URI, or nothing where there is none."""
    os.environ["PGTEST_DURABLE"] = "1"
    servers = Servers()
    try:
        uri = servers.postgresql()
    except MissingError as err:
        print(f"without {err}")
        uri = ""
    try:
        yield uri
    finally:
        servers.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
