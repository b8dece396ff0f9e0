"""A server that the machine lacks is skipped by name, or fails the run where all are required."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent.parent
WANTS_CEPH: Final = "tests/faults/test_vault_store_s3.py::TestWhatLiesInTheBucket"


@pytest.mark.parametrize("workers", ["0", "1"], ids=["one-process", "workers"])
@pytest.mark.parametrize(
    ("required", "code", "said"),
    [("", 0, "not on this machine: radosgw"), ("all", 1, "missing and required: radosgw")],
    ids=["newcomer", "ci"],
)
def test_a_missing_server_is_named(required: str, code: int, said: str, workers: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", workers, WANTS_CEPH],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": str(Path(sys.executable).parent),
            "OUBLIETTE_TEST_REQUIRE": required,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert said in done.stdout
    assert "passed" not in done.stdout.splitlines()[-1]
