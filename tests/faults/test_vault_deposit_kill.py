"""SIGKILL between any two steps of a deposit: no acknowledged call is lost, no failed one opens.

A child process deposits through ports that kill it at the n-th step; the parent restarts the vault
over what is left, runs what the sweep runs, and looks. Each step has its own external id.
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database, open_database
from keys.errors import LeafPunctured
from keys.tables import key_leases
from tests.fakes.fuse import Fuse, FusedDatabase, FusedStore
from tests.fakes.vault_stack import VaultStack, build, reopen
from vault import attempt_rows, container
from vault.deposit import DepositRequest
from vault.errors import ObjectMissing
from vault.open_deposit import OpenDeposit
from vault.sealed_audio import AudioReader, SealedAudio
from vault.stores.local import FolderStore
from vault.tables import attempts, recordings

BODY = bytes(n * 131 % 251 for n in range(150_000))
RAW = "audio/PCMA"
STEPS_MAX = 60
Child = Callable[[VaultStack, str], str]


@dataclass(frozen=True)
class Killed:
    """What the parent knows after a child is dead."""

    external_id: str
    step: str
    acknowledged: str


@pytest.fixture
def vault(database_uri: str, tmp_path: Path) -> Iterator[VaultStack]:
    """Return a vault whose parent holds no connection while children run."""
    (tmp_path / "objects").mkdir()
    database = open_database(database_uri)
    stack = build(database, FolderStore(tmp_path / "objects"), tmp_path)
    stack.campaign()
    database.close()
    yield stack
    database.close()


def deposit(vault: VaultStack, external_id: str) -> str:
    """Deposit in the right order; returns the recording's id, which a sender would be told."""
    return vault.put(BODY, external_id=external_id, media_type=RAW).recording_id


def run_child(vault: VaultStack, uri: str, child: Child, external_id: str, burns_at: int) -> Killed:
    """Fork, let the child deposit and perhaps die, return what it said before."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child uses none of our threads
        child_id = os.fork()
    if child_id == 0:
        os.close(reader)
        status = 1
        try:
            _deposit_in_child(vault, uri, child, external_id, burns_at=burns_at, said=writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader) as told:
        lines = [json.loads(line) for line in told]
    _, status = os.waitpid(child_id, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.WEXITSTATUS(status) == 0
    steps = [line["step"] for line in lines if "step" in line]
    done = [line["done"] for line in lines if "done" in line]
    return Killed(external_id, steps[-1] if killed else "", done[0] if done else "")


def _deposit_in_child(
    vault: VaultStack, uri: str, child: Child, external_id: str, *, burns_at: int, said: int
) -> None:
    def say(**line: str) -> None:
        os.write(said, json.dumps(line).encode() + b"\n")

    class TellingFuse(Fuse):
        def step(self, name: str) -> None:
            say(step=name)
            super().step(name)

    fuse = TellingFuse()
    plain = open_database(uri)
    database = FusedDatabase(plain.engine, fuse=fuse)
    store = FusedStore(FolderStore(vault.root / "objects"), fuse)
    stack = reopen(vault, database, store, owner=f"child-{external_id}")
    stack.keyring.warm(stack.controller_id)
    stack.ledger.prepare()
    fuse.steps.clear()
    fuse.burns_at = burns_at
    say(done=child(stack, external_id))


def kill_at_each_step(vault: VaultStack, uri: str, child: Child) -> list[Killed]:
    """Deposit again and again, each time killed one step later, until one gets through."""
    killed = []
    for number in range(1, STEPS_MAX):
        one = run_child(vault, uri, child, f"call-{number}", number)
        killed.append(one)
        if not one.step:
            return killed
    raise AssertionError("a deposit with no end")


def restarted(vault: VaultStack, uri: str) -> VaultStack:
    """Return the vault as a new process finds it, after its sweep."""
    database = open_database(uri)
    stack = reopen(vault, database, FolderStore(vault.root / "objects"), owner="restarted")
    with database.transaction() as connection:
        connection.execute(key_leases.delete())  # those of the dead would end by themselves
        stack.attempts.mark_dead(connection, silent_s=-1)
        ended = attempt_rows.unpunctured(connection, stack.controller_id)
    stack.shredder.puncture(stack.controller_id, [one.leaf for one in ended])
    with database.transaction() as connection:
        attempt_rows.mark_punctured(connection, [one.id for one in ended])
    stack.keyring.warm(stack.controller_id)
    return stack


def check_nothing_lost(vault: VaultStack, killed: list[Killed]) -> None:
    """Every acknowledged recording plays; every row plays; nothing else opens."""
    with vault.database.read() as connection:
        rows = connection.execute(sa.select(recordings.c.id)).scalars().all()
        states = set(connection.execute(sa.select(attempts.c.state)).scalars())
        ended = connection.execute(
            sa.select(attempts.c.recording_id).where(attempts.c.state == "punctured")
        ).scalars()
        failed = set(ended)
    assert {one.acknowledged for one in killed if one.acknowledged} <= set(rows)
    assert states <= {"stored", "punctured"}
    for one in rows:
        assert play(vault, one) == BODY
    for path in sorted((vault.root / "objects").rglob("*")):
        head = path.read_bytes()[: container.HEADER_BYTES] if path.is_file() else b""
        if len(head) < container.HEADER_BYTES:
            continue
        header = container.decode_header(head)
        if header.subject.recording_id in failed:
            with pytest.raises(LeafPunctured):
                vault.keyring.unwrap_dek(header.subject, header.wrapped_dek)
        else:
            assert header.subject.recording_id in rows


def check_senders_get_through(vault: VaultStack, killed: list[Killed]) -> None:
    """A resend of each id ends with exactly one recording of it, in the ledger."""
    for one in killed:
        again = vault.put(BODY, external_id=one.external_id, media_type=RAW)
        assert not one.acknowledged or (again.recording_id, again.created) == (
            one.acknowledged,
            False,
        )
    with vault.database.read() as connection:
        rows = connection.execute(sa.select(recordings.c.id)).scalars().all()
    assert len(rows) == len(killed)
    assert {event["recording"] for event in vault.events("recording-deposited")} == set(rows)


def play(vault: VaultStack, recording_id: str) -> bytes:
    row = vault.recording(recording_id)
    sealed = SealedAudio(
        row.subject, row.object_key, row.wrapped_dek or b"", row.commitment, row.clear_bytes
    )
    reader = AudioReader(vault.keyring, vault.store, sealed)
    reader.prove()
    return reader.read(0, row.clear_bytes - 1)


def test_a_kill_between_any_two_steps_loses_nothing_and_opens_nothing(
    vault: VaultStack, database_uri: str
) -> None:
    killed = kill_at_each_step(vault, database_uri, deposit)
    steps = [one.step for one in killed]
    assert steps.count("before a commit") == 2  # the attempt's and the recording's
    assert steps.count("after a commit") == 2
    assert {"before a write", "before the object is durable", "after the object is durable"} <= set(
        steps
    )
    assert killed[-1].acknowledged
    vault = restarted(vault, database_uri)
    check_nothing_lost(vault, killed)
    check_senders_get_through(vault, killed)
    vault.database.close()


def row_before_object(vault: VaultStack, external_id: str) -> str:
    """Deposit in the wrong order: the row is committed before the object is durable."""
    upload = vault.deposit.begin(
        vault.actor(), DepositRequest("winter-sale", external_id=external_id, media_type=RAW)
    )
    assert isinstance(upload, OpenDeposit)
    upload.write(BODY)
    writer, upload._writer = upload._writer, _Pretending(container.object_size(len(BODY)))
    assert writer is not None
    upload._writer.inner = writer
    done = upload.finish()
    writer.finish()
    return done.recording_id


class _Pretending:
    """A writer that says it is durable and is not yet."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.inner: object = None

    def write(self, piece: bytes) -> bool:
        return self.inner.write(piece)  # type: ignore[attr-defined,no-any-return]

    def flush(self) -> None: ...

    def finish(self) -> int:
        return self.size

    def abort(self) -> None: ...


def test_a_wrong_order_is_noticed_by_the_same_look(vault: VaultStack, database_uri: str) -> None:
    killed = kill_at_each_step(vault, database_uri, row_before_object)
    vault = restarted(vault, database_uri)
    with pytest.raises(ObjectMissing):
        check_nothing_lost(vault, killed)
    vault.database.close()


def test_an_attempt_that_nobody_punctures_is_noticed_by_the_same_look(
    vault: VaultStack, database_uri: str
) -> None:
    killed = kill_at_each_step(vault, database_uri, deposit)
    database: Database = open_database(database_uri)
    stack = reopen(vault, database, FolderStore(vault.root / "objects"), owner="no-sweep")
    with database.transaction() as connection:
        connection.execute(
            attempts.update().where(attempts.c.state == "open").values(state="punctured")
        )
    stack.keyring.warm(stack.controller_id)
    with pytest.raises(pytest.fail.Exception):
        check_nothing_lost(stack, killed)
    database.close()
