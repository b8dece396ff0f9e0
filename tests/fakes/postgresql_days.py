"""A PostgreSQL server whose data folder and write-ahead log are put back to one of two days.

Copies are of whole folders of a server that was shut down. An old data folder is rolled forward by
recovery from the log of the newer day, as an operator does with an archive; a new one over the log
of an older day lacks the checkpoint that it names, and the server itself refuses to start.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from core.db import open_database
from core.migrate import migrate
from tests.services.servers import HERE, Servers, run_script

SCRIPT = str(HERE / "postgres.sh")
SETTINGS = "wal_keep_size = '512MB'\nhot_standby = off\n"


@dataclass(frozen=True)
class Cluster:
    """One server, on one port, over folders that change.

    Attributes:
        folder: of the script; the data lie in ``pgdata``.
        uri: of its database, as ``open_database`` takes it.
        settings: with which the script starts this server again.
    """

    folder: Path
    uri: str
    settings: dict[str, str]

    @property
    def data(self) -> Path:
        """Return the folder that the server runs on."""
        return self.folder / "pgdata"

    def keep(self, day: str) -> None:
        """Copy the whole folder, log included, of the server shut down; it goes on afterwards."""
        self.stop()
        copy(self.data, self.folder / day)
        self.start()

    def put_back(self, *, data: str, wal: str) -> bool:
        """Run on the data of one day and the log of one day; tell whether the server starts.

        Args:
            data: a day that was kept.
            wal: the same, or another day.
        """
        self.stop()
        shutil.rmtree(self.data)
        copy(self.folder / data, self.data)
        if data != wal == "new":
            self._roll_forward(self.folder / wal / "pg_wal")
        elif data != wal:
            shutil.rmtree(self.data / "pg_wal")
            copy(self.folder / wal / "pg_wal", self.data / "pg_wal")
        try:
            self.start()
        except RuntimeError:
            return False
        return True

    def stop(self) -> None:
        """Shut down in good order."""
        run_script([SCRIPT, "stop", str(self.folder)])

    def start(self) -> None:
        """Start, and wait until it answers; RuntimeError when it does not."""
        run_script([SCRIPT, "start", str(self.folder)], self.settings)

    def _roll_forward(self, log: Path) -> None:
        with (self.data / "postgresql.auto.conf").open("a") as settings:
            settings.write(f"restore_command = 'cp {log}/%f \"%p\"'\n")
        signal = self.data / "recovery.signal"
        signal.touch()
        owner = self.data.stat()
        os.chown(signal, owner.st_uid, owner.st_gid)


def copy(source: Path, target: Path) -> None:
    """Copy a folder with its owner and its modes, which the server looks at."""
    subprocess.run(["cp", "-a", str(source), str(target)], check=True)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """Run a server of its own with an empty vault's database, kept as the day ``empty``."""
    servers = Servers()
    try:
        given = servers.postgresql()
        folder = servers.folder / "postgres"
        opened = (folder / "pgdata" / "postmaster.opts").read_text().split()[0]
        settings = {
            "PGTEST_PORT": given.rsplit(":", 1)[1].split("/")[0],
            "PGTEST_BIN": str(Path(opened).parent),
        }
        with (folder / "pgdata" / "postgresql.auto.conf").open("a") as more:
            more.write(SETTINGS)
        uri = given.replace("postgresql://", "postgresql+psycopg://")
        one = Cluster(folder, uri, settings)
        database = open_database(uri)
        migrate(database)
        database.close()
        one.keep("empty")
        yield one
    finally:
        servers.stop()
