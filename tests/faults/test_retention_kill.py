"""SIGKILL of a real process between any two steps of an erasure; another process goes on.

A child executes and runs an erasure through ports that kill it at the n-th step. The parent starts
again over what is left: nothing is certified whose keys live, the erasure ends by itself, and the
survivor plays.
"""

from __future__ import annotations

import itertools
import os
import signal
import warnings
from pathlib import Path

import pytest

from core.db import open_database
from keys.providers.registry import Providers, open_provider
from retention.certificate import verify_certificate
from retention.erasure_rows import Erasure
from retention.target import Target
from tests import evidence
from tests.fakes.hsm import hsm_uri, make_token, pin_file
from tests.fakes.key_faults import Fuse
from tests.fakes.leases import lapse
from tests.fakes.retention_vault import RetentionVault, build, call

BODY = call(pitch=5)
MOST = 400
TOKEN = [pytest.mark.needs_softhsm, pytest.mark.prove]
EVERY = pytest.param(1, marks=[pytest.mark.prove, pytest.mark.timeout(900)], id="every")
URIS = [
    "sqlite_uri",
    pytest.param("postgresql_uri", marks=[pytest.mark.needs_postgresql, pytest.mark.prove]),
]


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def erase_in_child(vault: RetentionVault, uri: str, planned: Erasure, at: int) -> bool:
    """Execute and run in a process that is killed at a step; tell whether it was."""
    vault.database.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child uses none of our threads
        child_id = os.fork()
    if child_id == 0:
        status = 1
        try:
            own = vault.over(database=open_database(uri)).restarted(Fuse(at, blow=kill_self))
            own.execute(planned)
            own.erase.run(planned.id)
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child_id, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    assert killed or os.WEXITSTATUS(status) == 0
    return killed


def restarted(vault: RetentionVault) -> RetentionVault:
    """Start again a while later, as a service does."""
    lapse(vault.database)
    again = vault.restarted()
    again.restore.check_start()
    again.sequencer.check()
    assert all(one.error is None for one in again.recovery.recover_all())
    return again


def check_no_early_certificate(vault: RetentionVault, planned: Erasure) -> None:
    """What is called shredded cannot be opened by the newest key material there is."""
    keyring = vault.stack.keyring
    keyring.warm(vault.stack.controller_id)
    for item in planned.items:
        row = vault.stack.recording(item.recording_id)
        alive = keyring.holds(row.controller_id, row.prefix, row.leaf_index)
        called_dead = row.state in {"shredded", "deleted"}
        evidence.dead("while it is called shredded", opened=alive and called_dead)
    erasure = vault.erase.get(vault.dpo, planned.id)
    assert erasure.certificate_id is None


def opens(vault: RetentionVault, planned: Erasure) -> bool:
    """Tell whether the leaf of what was erased is in the newest cover."""
    row = vault.stack.recording(planned.items[0].recording_id)
    vault.stack.keyring.warm(row.controller_id)
    return vault.stack.keyring.holds(row.controller_id, row.prefix, row.leaf_index)


def in_a_token(vault: RetentionVault, uri: str) -> RetentionVault:
    """Move every key of the vault from files into a token, as an operator does."""
    providers = Providers((*vault.stack.shredder.providers, open_provider(uri)))
    moved = vault.restarted(providers=providers)
    for controller_id in (vault.stack.controller_id, vault.stack.ledger.ledger_controller_id):
        moved.stack.shredder.migrate(controller_id, open_provider(uri).uri)
    for folder in ("epochs", "epochs-2"):
        assert list((vault.stack.root / folder).glob("[0-9a-f]*")) == []
    return moved.restarted(providers=Providers((open_provider(uri),)))


@pytest.mark.parametrize("keys", ["local", pytest.param("pkcs11", marks=TOKEN)])
@pytest.mark.parametrize("stride", [pytest.param(13, id="13th"), EVERY])
@pytest.mark.parametrize("uri_name", URIS)
def test_an_erasure_ends_whenever_its_process_is_killed(
    uri_name: str, stride: int, keys: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri: str = request.getfixturevalue(uri_name)
    vault = build(open_database(uri), tmp_path)
    if keys == "pkcs11":
        softhsm: dict[str, str] = request.getfixturevalue("softhsm")
        vault = in_a_token(vault, hsm_uri(softhsm, [make_token(softhsm)], pin_file(tmp_path)))
    survivor = vault.deposit(body=BODY)
    killed = 0
    for at in itertools.count(0, stride):
        assert at < MOST
        planned = vault.plan(Target.recording(vault.deposit()))
        if not erase_in_child(vault, uri, planned, at):
            break
        killed += 1
        vault = restarted(vault)
        check_no_early_certificate(vault, planned)
        vault.execute(planned)
        for _ in range(2):
            vault.erase.resume_all()
            vault.sequencer.run_once()
        text = vault.erase.certificate(vault.dpo, planned.id)
        assert verify_certificate(text, vault.signer.vkey).erasure_id == planned.id
        assert vault.state(planned.items[0].recording_id) == "shredded"
        evidence.dead("by its certificate", opened=opens(vault, planned))
        evidence.alive("after a kill", plays=vault.plays(survivor) == BODY)
    assert killed > 40 // stride
    vault.database.close()
