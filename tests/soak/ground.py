"""What the rig stands on: the vault's own database, and nginx with the project's settings."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from tests.fakes.fleet import ROOT

ROLE: Final = "oubliette"
DATABASE: Final = "calls"
SNIPPET: Final = ROOT / "deploy" / "nginx-oubliette.conf"


def ordinary_database(superuser: str) -> str:
    """Make the vault's database, owned by an ordinary role; returns that role's URI."""
    url = sa.engine.make_url(superuser)
    password = str(url.password)
    _administer(superuser, f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER PASSWORD '{password}'")
    _administer(superuser, f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    return url.set(username=ROLE, database=DATABASE).render_as_string(hide_password=False)


def as_superuser(superuser: str) -> str:
    """Return the superuser's URI of the vault's database, for SQLAlchemy."""
    url = sa.engine.make_url(superuser).set(database=DATABASE, drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


def _administer(superuser: str, statement: str) -> None:
    url = sa.engine.make_url(superuser).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


@contextmanager
def nginx(program: str, folder: Path, *, port: int, behind: Sequence[int]) -> Iterator[None]:
    """Run nginx with the project's settings on a port, in front of others; until the block ends."""
    folder.mkdir()
    text = SNIPPET.read_text().replace("http://127.0.0.1:8080", "http://oubliette")
    text = text.replace("/var/log/nginx/oubliette.error.log", f"{folder}/oubliette.log")
    servers = "".join(f"server 127.0.0.1:{one};" for one in behind)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
daemon off; {user} worker_processes 1; pid nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off; client_body_temp_path body 1 2; proxy_temp_path proxy 1 2;
    fastcgi_temp_path other; uwsgi_temp_path other; scgi_temp_path other;
    upstream oubliette {{ {servers} }}
    server {{ listen 127.0.0.1:{port}; {text} }}
}}
""")
    words = [program, "-p", str(folder), "-c", "nginx.conf", "-e", "first.log"]
    with subprocess.Popen(words) as process:
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
