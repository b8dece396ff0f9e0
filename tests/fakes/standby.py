"""A PostgreSQL primary and its standby: killed, and promoted, as a failover does it."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from core.db import open_database
from core.migrate import migrate
from tests.services.servers import MissingError, Servers, free_port

OWNER: Final = "nobody"
STREAMS_S: Final = 60.0


@dataclass(frozen=True)
class Pair:
    """Both servers, each with a data folder of its own.

    Attributes:
        uri: of the primary's database.
        standby_port: where the standby listens.
    """

    programs: Path
    folder: Path
    uri: str
    standby_port: int

    def kill_primary(self) -> None:
        """End the primary as a machine that dies does: nothing is shut down."""
        self.run(
            "pg_ctl", "-D", str(self.folder / "postgres" / "pgdata"), "-m", "immediate", "stop"
        )

    def promote(self) -> None:
        """Make the standby a primary; returns once it takes writes."""
        self.run("pg_ctl", "-D", str(self.standby), "-w", "promote")

    @property
    def standby(self) -> Path:
        return self.folder / "standby" / "pgdata"

    def begin_standby(self) -> None:
        """Copy the primary, follow it, and let its commits wait for the copy."""
        url = sa.engine.make_url(self.uri)
        self.standby.parent.mkdir()
        if os.geteuid() == 0:
            owner = pwd.getpwnam(OWNER)
            os.chown(self.standby.parent, owner.pw_uid, owner.pw_gid)
        where = f"host=127.0.0.1 port={url.port} user={url.username} password={url.password}"
        self.run("pg_basebackup", "-d", where, "-D", str(self.standby), "-R", "-c", "fast")
        options = f"-p {self.standby_port} -c unix_socket_directories={self.standby.parent}"
        log = str(self.standby.parent / "log")
        self.run("pg_ctl", "-D", str(self.standby), "-o", options, "-l", log, "-w", "start")
        engine = sa.create_engine(url.set(drivername="postgresql+psycopg"))
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            give_up = time.monotonic() + STREAMS_S
            while not connection.exec_driver_sql("SELECT 1 FROM pg_stat_replication").first():
                assert time.monotonic() < give_up, "the standby does not follow"
                time.sleep(0.1)
            connection.exec_driver_sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
            connection.exec_driver_sql("SELECT pg_reload_conf()")
        engine.dispose()

    def stop(self) -> None:
        """Stop the standby, whatever it has become."""
        self.run("pg_ctl", "-D", str(self.standby), "-m", "immediate", "stop", check=False)

    def run(self, program: str, *words: str, check: bool = True) -> None:
        """Run one of PostgreSQL's programs as the servers' owner."""
        command = [str(self.programs / program), *words]
        if os.geteuid() == 0:
            group = str(pwd.getpwnam(OWNER).pw_gid)
            command = ["setpriv", "--reuid", OWNER, "--regid", group, "--clear-groups", *command]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0 or not check, done.stderr + done.stdout


@contextmanager
def failover_pair() -> Iterator[Pair]:
    """Run a primary with the vault's schema, and a standby that holds each of its commits."""
    servers = Servers()
    try:
        uri = servers.postgresql()
        folder = servers.folder
        started = (folder / "postgres" / "pgdata" / "postmaster.opts").read_text().split()[0]
        if not Path(started).with_name("pg_basebackup").exists():
            raise MissingError("pg_basebackup")
        database = open_database(uri)
        migrate(database)
        database.close()
        pair = Pair(Path(started).parent, folder, uri, free_port())
        folder.chmod(0o777)
        pair.begin_standby()
        try:
            yield pair
        finally:
            pair.stop()
    finally:
        servers.stop()
