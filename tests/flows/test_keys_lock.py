"""One process at a time works on a controller's keys, on both databases."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from core.db import Database, open_database
from keys.errors import KeyUnavailable
from keys.lock import ControllerLocks
from tests.fakes.key_world import new_id


def test_one_holds_the_lock_of_a_controller_at_a_time(database: Database) -> None:
    controller_id = new_id()
    elsewhere = open_database(_uri(database), pool_size=1)
    with ControllerLocks(database).hold(controller_id):
        for one in (database, elsewhere):
            with (
                pytest.raises(KeyUnavailable, match="controller-lock"),
                ControllerLocks(one, wait_s=0.1).hold(controller_id),
            ):
                pass
        with ControllerLocks(elsewhere, wait_s=0.1).hold(new_id()):
            pass
    with ControllerLocks(elsewhere).hold(controller_id):
        pass
    elsewhere.close()


def test_another_process_is_kept_out_too(database: Database) -> None:
    controller_id = new_id()
    script = (
        "import sys\n"
        "from core.db import open_database\n"
        "from keys.lock import ControllerLocks\n"
        "with ControllerLocks(open_database(sys.argv[1])).hold(sys.argv[2]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, _uri(database), controller_id]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with (
            pytest.raises(KeyUnavailable, match="controller-lock"),
            ControllerLocks(database, wait_s=0.2).hold(controller_id),
        ):
            pass
        other.kill()
    with ControllerLocks(database).hold(controller_id):
        assert other.returncode == -signal.SIGKILL


def _uri(database: Database) -> str:
    return database.engine.url.render_as_string(hide_password=False)
