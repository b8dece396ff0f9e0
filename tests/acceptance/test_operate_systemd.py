"""The systemd unit is well formed, hardened, and names what the program really has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from api.settings import load_settings

ROOT: Final = Path(__file__).parent.parent.parent
UNIT: Final = ROOT / "deploy" / "oubliette.service"
PROGRAM: Final = "/opt/oubliette/.venv/bin/oubliette"


def values(name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.MULTILINE)


def test_the_commands_exist() -> None:
    commands = [*values("ExecStartPre"), *values("ExecStart")]
    assert [one.split() for one in commands] == [[PROGRAM, "migrate"], [PROGRAM, "serve"]]
    for one in commands:
        done = subprocess.run(
            [sys.executable, "-c", "from api.cli import main; main()", one.split()[1], "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


def test_the_settings_exist() -> None:
    pairs = [one.split("=", 1) for one in values("Environment")]
    ours = {name: value for name, value in pairs if name.startswith("OUBLIETTE_")}
    assert load_settings(ours).data_dir == Path("/var/lib") / values("StateDirectory")[0]
    assert {name for name, _ in pairs} - ours.keys() == {
        "MALLOC_TRIM_THRESHOLD_",
        "MALLOC_MMAP_THRESHOLD_",
        "MALLOC_TOP_PAD_",
    }


def test_key_material_reaches_neither_core_dump_nor_swap() -> None:
    assert values("LimitCORE") == ["0"]
    assert values("MemorySwapMax") == ["0"]
    assert values("UMask") == ["0077"]
    assert values("StateDirectoryMode") == ["0700"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_accepts_the_unit_and_rates_it_safe(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
