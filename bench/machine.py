"""What a run was measured on, in words: no path, no host name."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from importlib import metadata
from pathlib import Path
from typing import Final

from api.version import program_version
from bench.servers import nginx_version
from core.db import open_database

PACKAGES: Final = ("cryptography", "uvicorn", "httptools", "starlette", "fastapi", "SQLAlchemy")
_FLUSHES: Final = 30


def machine() -> dict[str, str]:
    """Return what kind of machine this is, and how busy."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{os.cpu_count()} x {_processor()}",
        "memory": f"{memory_gib:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "folder": f"{_file_system()}, one flush of 4 KiB {_flush_ms():.2f} ms",
        "load": f"load {os.getloadavg()[0]:.1f} at the start",
    }


def versions(postgresql_uri: str) -> dict[str, str]:
    """Return the versions of everything that is measured."""
    found = {"oubliette": _revision(), "Python": platform.python_version()}
    found |= {name: metadata.version(name) for name in PACKAGES}
    found["SQLite"] = sqlite3.sqlite_version
    if postgresql_uri:
        found["PostgreSQL"] = _postgresql_version(postgresql_uri)
    if nginx_version():
        found["nginx"] = nginx_version()
    return found


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _file_system() -> str:
    """Return the type of the file system that the temporary folder lies on."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return "unknown file system"
    here = Path(tempfile.gettempdir()).resolve()
    types = {
        Path(fields[1]): fields[2]
        for fields in (line.split() for line in mounts.read_text().splitlines())
    }
    return next((types[one] for one in (here, *here.parents) if one in types), "unknown")


def _flush_ms() -> float:
    took = []
    with tempfile.TemporaryFile() as file:
        for _ in range(_FLUSHES):
            began = time.perf_counter()
            os.pwrite(file.fileno(), bytes(4_096), 0)
            os.fsync(file.fileno())
            took.append((time.perf_counter() - began) * 1e3)
    return statistics.median(took)


def _revision() -> str:
    """Return the program's version, and the commit of a checkout."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    try:
        commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        commit = ""
    return f"{program_version()} {commit}".strip()


def _postgresql_version(uri: str) -> str:
    database = open_database(uri, pool_size=1)
    with database.read() as connection:
        told = str(connection.exec_driver_sql("SHOW server_version").scalar_one())
    database.close()
    return told.partition(" ")[0]
