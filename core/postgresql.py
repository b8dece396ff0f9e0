"""What a connection to PostgreSQL is told, so that nobody waits for ever and nobody is waited for.

- A server that is gone is noticed within 20 s, also in the middle of a statement; one that does not
  take connections within 5 s. The server notices as soon that a client's machine is gone.
- A server that only reads (a standby before it is promoted, a primary that a supervisor closed) is
  no server: the connection is refused, the next host of the address is tried.
- A session that is silent inside a transaction is ended by the server after ``held_max_s``: a
  process that was stopped there gives its rows back. Who waits for a row waits a little longer than
  that and is then told that the database is busy.

What the address itself says wins. Statements have no time limit: a sweep may need its minutes.

Does not protect against: a server that is stopped while its kernel goes on answering; it is waited
for, and readiness says so.

Source: PostgreSQL manual, "Parameter Key Words" of libpq, "Statement Behavior".
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import URL

HELD_MAX_S: Final = 15
LOCK_SPARE_S: Final = 5
ONLY_READS: Final = "25006"
LOCK_NOT_AVAILABLE: Final = "55P03"
# the server ended the session, or closed itself to writing: classes that psycopg calls internal
SERVER_ENDED: Final = frozenset({ONLY_READS, "25P03", "25P04"})
_CONNECTION: Final = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
    "target_session_attrs": "read-write",
}

# the server's own look: it gives back what a machine held that is gone
_SESSION: Final = {
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 5,
    "tcp_keepalives_count": 3,
}


def address(url: URL, *, application: str, held_max_s: int) -> URL:
    """Return the address with everything that a connection is told.

    Args:
        url: of PostgreSQL, as the settings give it.
        application: the name that the server shows.
        held_max_s: how long a transaction may be silent.
    """
    limits = {
        **_SESSION,
        "idle_in_transaction_session_timeout": held_max_s * 1000,
        "lock_timeout": (held_max_s + LOCK_SPARE_S) * 1000,
    }
    ours = " ".join(f"-c {name}={value}" for name, value in limits.items())
    theirs = str(url.query.get("options", ""))
    told = {"application_name": application, **_CONNECTION, **url.query}
    query = {**told, "options": f"{ours} {theirs}".strip()}
    return url.set(drivername="postgresql+psycopg", query=query)
