"""A rolling upgrade under load loses no request other than those that say Retry-After.

Three real services in production mode behind a real nginx that tries nothing twice; PostgreSQL with
row-level security; callers that deposit (some slowly), listen (some for long), search, look and
erase all the time. The next release is this program with a revision of every kind that the rules
allow. The controls are an upgrade that breaks the release before, and a service that ends as soon
as it is told to: their losses are seen.
"""

from __future__ import annotations

import subprocess
import tarfile
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import pytest

from api.readiness import KEPT_S
from tests.fakes.fleet import ROOT, Reply, command
from tests.fakes.releases import ADDITIVE, BREAKING, PACKAGES, next_release
from tests.fakes.upgrade_rig import WAIT_S, Rig, upgrading
from tests.fakes.waiting import eventually

pytestmark = [
    pytest.mark.prove,
    pytest.mark.needs_postgresql,
    pytest.mark.needs_nginx,
    pytest.mark.timeout(600),
]

Record = Callable[[str, object], None]
NEXT: Final = "0.2.0"
MORE: Final = 4
# a program from before the schema could be newer than it: the one without this revision
SINCE: Final = "core/migrations/versions/0007_admins.py"


def versions(rig: Rig) -> list[str]:
    return [one.ask("GET", "/v1/version").json["version"] for one in rig.replicas]


def check_kept(rig: Rig) -> None:
    """What was acknowledged is there, what was erased is not, and the ledger verifies."""
    for one in rig.load.kept:
        assert shown(rig, f"/v1/recordings/{one}", "quality-manager").status == 200, one
    for one in rig.load.erased:
        assert shown(rig, f"/v1/recordings/{one}", "quality-manager").status == 410, one
    assert rig.load.entries <= entries(rig)
    done = command(rig.environ, "verify", program=rig.replicas[0].program)
    assert done.returncode == 0, done.stdout + done.stderr


def shown(rig: Rig, path: str, role: str) -> Reply:
    """Ask a replica, again while it has no time."""
    give_up = time.monotonic() + WAIT_S
    while True:
        answer = rig.replicas[0].ask("GET", path, None, **rig.load.headers(role))
        if answer.status not in {0, 503} or time.monotonic() > give_up:
            return answer
        time.sleep(0.5)


def entries(rig: Rig) -> set[str]:
    """Return the listens that the ledger tells of."""
    found: set[str] = set()
    path = "/v1/ledger/entries?type=listen-granted&limit=200"
    while path:
        answer = shown(rig, path, "auditor")
        assert answer.status == 200, answer
        found |= {one["entry_id"] for one in answer.json["items"]}
        following = urlsplit(answer.json["next"] or "")
        path = f"{following.path}?{following.query}" if following.path else ""
    return found


def test_a_rolling_upgrade_under_load_loses_nothing(
    postgresql_server: str, nginx: str, tmp_path: Path, record_property: Record
) -> None:
    after = next_release(tmp_path / "next", version=NEXT)
    with upgrading(tmp_path, postgresql_server, nginx, replicas=3, late=1) as rig:
        with rig.load.going_on(*rig.load.everything) as tally:
            rig.settle(1)
            said = rig.migrate(after.folder)
            assert (said["before"], said["now"], said["walls"]) == ("older", "current", "up")
            rig.settle(KEPT_S + 1)
            rig.await_ready()  # on the schema of the next release
            rig.start(rig.replicas[2])  # the release before, on the new schema
            assert NEXT not in versions(rig)
            left = list(rig.replicas)
            while left:
                one = rig.heard_one(left)
                rig.roll(one, after.folder, told_first=len(left) > 1)
                left.remove(one)
            for _ in range(MORE):
                if not tally.resumed:  # kernels may hold a whole call between replica and ear
                    rig.roll(rig.heard_one(rig.replicas), after.folder, told_first=True)
            rig.settle(1)
        record_property("counts", tally.line())
        assert versions(rig) == [NEXT] * 3
        assert tally.lost == []
        assert tally.resumed
        assert set(tally.requests) >= {"deposit", "audio", "listen", "search", "page", "erasure"}
        check_kept(rig)


def test_a_migration_that_breaks_the_release_before_is_seen_to_lose_requests(
    postgresql_server: str, nginx: str, tmp_path: Path
) -> None:
    after = next_release(tmp_path / "next", BREAKING, version=NEXT)
    with upgrading(tmp_path, postgresql_server, nginx, replicas=1) as rig:
        works = (rig.load.deposit, rig.load.listen, rig.load.look)
        with rig.load.going_on(*works) as tally:
            rig.settle()
            assert tally.lost == []
            rig.migrate(after.folder)
            await_loss(rig, 500)


def test_a_service_that_ends_as_soon_as_it_is_told_to_is_seen_to_lose_requests(
    postgresql_server: str, nginx: str, tmp_path: Path
) -> None:
    changes = {"OUBLIETTE_DRAIN_GRACE_S": "0"}
    with upgrading(tmp_path, postgresql_server, nginx, replicas=2, changes=changes) as rig:
        works = (rig.load.deposit, rig.load.listen, rig.load.look)
        with rig.load.going_on(*works) as tally:
            rig.settle()
            assert tally.lost == []
            rig.tell(rig.replicas[0])
            await_loss(rig, 502)


def await_loss(rig: Rig, status: int) -> None:
    """Wait until a request is lost to an answer, perhaps after some that got none."""
    lost = rig.load.tally.lost
    eventually(lambda: any(f" {status} " in one for one in list(lost)), f"a loss with {status}")


def previous_release(folder: Path) -> Path:
    """Return the program from before ``SINCE``; skips where history is not at hand."""
    found = git("log", "--diff-filter=A", "--format=%H", "--", SINCE).decode().split()
    if not found:
        pytest.skip("no history here: the release before cannot be had")
    commit = f"{found[-1]}^"
    packed = git("archive", "--format=tar", commit, *PACKAGES)
    if not packed:
        pytest.skip(f"no history here: {commit} cannot be had")
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def git(*words: str) -> bytes:
    """Return what git says of this checkout; nothing where it cannot."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, check=False)
    except FileNotFoundError:
        return b""
    return done.stdout if done.returncode == 0 else b""


def test_a_program_of_before_goes_on_while_its_schema_moves_and_is_replaced(
    postgresql_server: str, nginx: str, tmp_path: Path, record_property: Record
) -> None:
    """From before ``oldest_program``: it turns not ready, and loses nothing that reaches it."""
    before = previous_release(tmp_path / "before")
    left_out = ("OUBLIETTE_DRAIN_GRACE_S",)
    with upgrading(
        tmp_path, postgresql_server, nginx, replicas=2, program=before, left_out=left_out
    ) as rig:
        with rig.load.going_on(*rig.load.everything) as tally:
            rig.settle(1)
            assert rig.migrate(ROOT)["now"] == "current"
            rig.settle(2)
            for one in rig.replicas:
                one.environ = {**one.environ, "OUBLIETTE_DRAIN_GRACE_S": "0"}
                rig.roll(one, ROOT, told_first=False)
            rig.settle(1)
        record_property("counts", f"{tally.line()} (the program before {Path(SINCE).stem})")
        assert tally.lost == []
        check_kept(rig)


def test_each_kind_of_revision_is_in_the_next_release(tmp_path: Path) -> None:
    """The rolling upgrade would prove little with an empty migration."""
    after = next_release(tmp_path / "next", version=NEXT)
    added = sorted((after.folder / "core" / "migrations" / "versions").glob("*_next.py"))
    text = "".join(path.read_text() for path in added)
    assert len(added) == len(ADDITIVE)
    for kind in ("add_column", "server_default", "create_table", "controller_id", "concurrently"):
        assert kind in text
    assert after.head == added[-1].name[:4]
