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
from core.migrate import PATIENCE_S

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


def test_a_migration_has_its_time_and_a_start_is_tried_for_ever() -> None:
    assert int(values("TimeoutStartSec")[0]) >= 2 * PATIENCE_S
    assert values("Restart") == ["on-failure"]
    assert values("StartLimitIntervalSec") == ["0"]


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


PAGE: Final = ROOT / "docs" / "operate.md"
RUNNER: Final = """#!/usr/bin/env python3
# stands in for systemd-run: checks what it is asked for, and runs it as this user
import os, sys
properties, settings, words = [], {}, sys.argv[1:]
while words[0].startswith("-"):
    word = words.pop(0)
    if word == "-p":
        properties.append(words.pop(0))
    elif word == "-E":
        name, _, value = words.pop(0).partition("=")
        settings[name] = value
    elif word not in ("--quiet", "--wait", "--pipe", "--collect", "--uid=oubliette"):
        sys.exit(f"unknown: {word}")
with open(os.environ["ASKED"], "w") as asked:
    asked.write("\\n".join(properties))
(file,) = [one.partition("=")[2] for one in properties if one.startswith("EnvironmentFile=")]
with open(file) as lines:
    given = dict(line.rstrip("\\n").split("=", 1) for line in lines if "=" in line)
kept = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ["PYTHONPATH"]}
os.execve(words[0], words, kept | given | settings)
"""


def block() -> str:
    """Return the commands of the page's first section."""
    return PAGE.read_text().split("## One machine, systemd")[1].split("```")[1]


def stand_ins(root: Path) -> dict[str, str]:
    """Make the page's folders below a root, and commands that stand in for the system's.

    Most only write down how they were called; ``systemd-run`` runs the program.
    """
    commands, noted = root / "bin", root / "noted"
    commands.mkdir()
    (root / "etc/systemd/system").mkdir(parents=True)
    programs = root / "opt/oubliette/.venv/bin"
    programs.mkdir(parents=True)
    for one in (
        *(commands / name for name in ("useradd", "systemctl", "python3")),
        programs / "pip",
    ):
        one.write_text(f'#!/bin/sh\necho {one.name} "$@" >> {noted}\n')
    (commands / "systemd-run").write_text(RUNNER.replace("/usr/bin/env python3", sys.executable))
    (programs / "oubliette").write_text(f'#!/bin/sh\nexec {sys.executable} -m api.cli "$@"\n')
    for one in (*commands.iterdir(), *programs.iterdir()):
        one.chmod(0o755)
    return {
        "PATH": f"{commands}:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONPATH": str(ROOT),
        "ASKED": str(root / "asked"),
    }


def run_page(root: Path, more: str = "", *, page: str = "") -> str:
    """Run the commands as they stand there, below ``root``; returns what they print."""
    script = re.sub(r"(?<![\w.])/(opt|etc|var)/", rf"{root}/\1/", page or block())
    settings = "OUBLIETTE_RECORDING_MAX_BYTES=64 MiB\nOUBLIETTE_LISTEN_PORT=8181\n"
    done = subprocess.run(
        ["/bin/sh", "-euc", f"{script}\n{more}"],
        cwd=ROOT,
        env=stand_ins(root),
        input=settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Follow the page once, and one of the commands that it promises for later."""
    root = tmp_path_factory.mktemp("machine")
    return root, run_page(root, "as_service token --role admin")


def test_the_page_is_followed_command_by_command(followed: tuple[Path, str]) -> None:
    root, told = followed
    for line in ("before: empty", "now: current", "controller: acme (ctl_"):
        assert line in told
    assert told.strip().splitlines()[-1].count(".") == 2  # a token, of the same vault
    settings = root / "etc/oubliette/oubliette.env"
    assert settings.stat().st_mode & 0o777 == 0o600
    assert (root / "etc/systemd/system/oubliette.service").read_text() == UNIT.read_text()
    assert (root / "var/lib/oubliette/vault/oubliette.db").stat().st_mode & 0o077 == 0
    noted = (root / "noted").read_text().splitlines()
    assert [line.split()[0] for line in noted] == ["useradd", "python3", "pip", "pip", "systemctl"]
    assert noted[-1] == "systemctl enable --now oubliette"


def test_the_files_that_pip_is_given_are_there() -> None:
    given = re.findall(r"-r (\S+)", block())
    assert given
    assert all((ROOT / one).is_file() for one in given)
    assert "--hash=sha256:" in (ROOT / given[0]).read_text()


def test_a_command_runs_under_what_the_unit_says(followed: tuple[Path, str]) -> None:
    root, _ = followed
    for one in (root / "asked").read_text().splitlines():
        name, _, value = one.replace(str(root), "").partition("=")
        assert values(name) == [value], one
    data = f"OUBLIETTE_DATA_DIR=/var/lib/{values('StateDirectory')[0]}"
    assert data in values("Environment")
    assert f"-E {data}" in block()
    assert f"--uid={values('User')[0]}" in block()


@pytest.mark.control
def test_control_a_command_that_is_not_there_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="migrat-e"):
        run_page(tmp_path, page=block().replace("as_service migrate", "as_service migrat-e"))
