"""A provider behind a network, asked for secrets by a child process that ends when idle."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from core.errors import IntegrityFailure
from keys.errors import KeyMissing, KeyUnavailable
from keys.ports import KeyTag
from keys.providers.apart import Apart, open_apart, serve
from keys.providers.deadline import Deadline
from keys.providers.registry import open_provider
from tests.fakes.key_world import new_id
from tests.fakes.transit_server import TOKEN, fake_transit

CONTEXT: Final = b"whose and when"
WAIT_S: Final = 60.0
STUCK_S: Final = 120
SILENCE_S: Final = 0.3


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Deadline]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with fake_transit() as (_, door):
        uri = f"transit:{door.url}/transit?token-file={tmp_path / 'token'}"
        yield open_apart(uri, timeout_s=WAIT_S)  # a busy machine starts a child in seconds


def made(provider: Deadline) -> str:
    key_id = os.urandom(16).hex()
    provider.create(key_id, KeyTag(new_id(), 1))
    return key_id


def child_of(provider: Deadline) -> int:
    assert isinstance(provider.inner, Apart)
    process = provider.inner.child._process
    assert process is not None
    return process.pid


def await_end(process_id: int, provider: Deadline) -> None:
    assert isinstance(provider.inner, Apart)
    process = provider.inner.child._process
    assert process is not None
    assert process.wait(timeout=WAIT_S) == 0
    assert process.pid == process_id


def test_what_was_wrapped_opens_and_nothing_else_does(provider: Deadline) -> None:
    key_id, secret = made(provider), os.urandom(32)
    wrapped = provider.wrap(key_id, secret, CONTEXT)
    assert provider.unwrap(key_id, wrapped, CONTEXT) == secret
    with pytest.raises(IntegrityFailure):
        provider.unwrap(key_id, wrapped, b"another context")
    provider.destroy(key_id)
    with pytest.raises(KeyMissing):
        provider.unwrap(key_id, wrapped, CONTEXT)


def never_idle(folder: Path) -> str:
    """Return a program that is the key process, however long its next call is in coming."""
    script = "import sys; from keys.providers import apart; apart.IDLE_S = 3600.0; "
    script += "apart.serve(sys.argv[3], 0, 1)"
    program = folder / "never-idle"
    words = shlex.join([sys.executable, "-c", script])
    program.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    program.chmod(0o700)
    return str(program)


def test_calls_in_a_row_share_a_child_which_ends_when_idle(
    provider: Deadline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(provider.inner, Apart)
    key_id = made(provider)
    with monkeypatch.context() as patch:
        patch.setattr("sys.executable", never_idle(tmp_path))
        wrapped = provider.wrap(key_id, bytes(32), CONTEXT)
        shared = child_of(provider)
        assert provider.unwrap(key_id, wrapped, CONTEXT) == bytes(32)
        assert child_of(provider) == shared
    provider.inner.child._end()
    assert provider.unwrap(key_id, wrapped, CONTEXT) == bytes(32)
    idle = child_of(provider)
    await_end(idle, provider)
    assert provider.unwrap(key_id, wrapped, CONTEXT) == bytes(32)
    assert child_of(provider) != idle


def test_a_child_that_was_killed_is_started_again(provider: Deadline) -> None:
    key_id = made(provider)
    wrapped = provider.wrap(key_id, bytes(32), CONTEXT)
    os.kill(child_of(provider), signal.SIGKILL)
    assert provider.unwrap(key_id, wrapped, CONTEXT) == bytes(32)


def test_a_child_that_hangs_is_killed_and_started_again(
    provider: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(provider.inner, Apart)
    child, key_id = provider.inner.child, made(provider)
    wrapped = provider.wrap(key_id, bytes(32), CONTEXT)
    hung, end = child_of(provider), child._end

    def ended() -> None:
        end()
        child.patience_s = WAIT_S  # the next one has to start first

    monkeypatch.setattr(child, "_end", ended)
    os.kill(hung, signal.SIGSTOP)
    child.patience_s = SILENCE_S
    assert provider.unwrap(key_id, wrapped, CONTEXT) == bytes(32)
    assert child_of(provider) != hung


@pytest.mark.parametrize(
    "said",
    [
        '{"leng',
        '{"length": 32}\\nhalf a secret',
        # what comes behind it would be taken for the answer to the next call
        'a warning\\n{"length": 32}\\n',
        '{"length": "32"}\\n',
        '{"error": "key-missing"}\\n',
    ],
)
def test_a_child_that_does_not_answer_whole_is_killed(
    provider: Deadline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    assert isinstance(provider.inner, Apart)
    key_id = made(provider)
    stuck = tmp_path / "stuck"
    stuck.write_text(f"#!/bin/sh\nprintf '{said}'\nexec sleep {STUCK_S}\n")
    stuck.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(stuck))
    provider.inner.child.rest_s = 0.2
    began = time.monotonic()
    with pytest.raises(KeyUnavailable, match="key-process-died"):
        provider.inner.wrap(key_id, bytes(32), CONTEXT)
    assert time.monotonic() - began < STUCK_S
    assert provider.inner.child._process is None
    assert provider.inner.child._finalize is None
    monkeypatch.undo()
    provider.inner.child.rest_s = WAIT_S
    assert provider.unwrap(key_id, provider.wrap(key_id, bytes(32), CONTEXT), CONTEXT) == bytes(32)


def test_a_child_that_cannot_live_is_a_provider_that_does_not_answer(
    provider: Deadline, monkeypatch: pytest.MonkeyPatch
) -> None:
    key_id = made(provider)
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(KeyUnavailable):
        provider.wrap(key_id, bytes(32), CONTEXT)


@pytest.mark.parametrize("uri", ["local:{0}/epochs,{0}/epochs-2"])
def test_a_provider_on_this_machine_gets_no_child(tmp_path: Path, uri: str) -> None:
    opened = open_apart(uri.format(tmp_path))
    assert type(opened.inner) is type(open_provider(uri.format(tmp_path)).inner)


class Leaky:
    """A provider whose failure speaks of what it was given."""

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        raise ValueError(f"cannot wrap {secret.hex()} under {key_id} for {context!r}")

    unwrap = wrap


def test_a_fault_that_nobody_foresaw_is_told_without_its_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("keys.providers.apart.open_provider", lambda *_, **__: Leaky())
    asked, answered = os.pipe(), os.pipe()
    said = {"call": "wrap", "key_id": "k", "context": CONTEXT.hex(), "length": 32}
    with os.fdopen(asked[1], "wb") as question, os.fdopen(answered[0], "rb") as answer:
        question.write(json.dumps(said).encode() + b"\n" + bytes(32))
        question.close()
        serve(json.dumps({"uri": "transit:x", "timeout_s": 1}), asked[0], answered[1])
        os.close(answered[1])
        told = answer.read()
    os.close(asked[0])
    assert json.loads(told) == {
        "error": "key-unavailable",
        "facts": {"what": "key-process-fault", "type": "ValueError"},
    }


def test_a_key_process_ends_without_the_words_of_its_fault() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "keys.providers.apart", "these words are no JSON"],
        capture_output=True,
        text=True,
        timeout=WAIT_S * 2,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "key process ended: JSONDecodeError\n"
