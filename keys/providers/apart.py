"""Providers behind a network, asked for secrets by a process of their own that soon ends.

What comes out of a KMS or of Vault passes through an HTTP client and a JSON parser: strings that
nobody can zero, in buffers that are freed as they are. So ``wrap`` and ``unwrap`` run in a child
process, which ends when it has been idle for three seconds; with it go all those copies, because
the kernel zeroes pages before it gives them to anybody. In this process the secret is in one
buffer, read from a pipe. Calls that carry no secret (create, list, destroy) are made here.

    request   one line of JSON | payload
    answer    one line of JSON {"length": n} | n bytes, or {"error": code, "facts": {...}}

A child that dies, does not answer, or stops in the middle of an answer is killed and started again,
once for each call; a call may run twice. Then the call has failed as ``KeyUnavailable``.

Does not protect against a reader of the child's memory while it lives, nor against the provider.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from core.errors import IntegrityFailure, InvalidRequest, OublietteError
from keys.errors import KeyMissing, KeyUnavailable
from keys.material import wipe
from keys.ports import KeyProvider, KeyTag, ListedKey
from keys.providers.deadline import PAUSE_S, TIMEOUT_S, Deadline, Patience
from keys.providers.registry import open_provider

IDLE_S: Final = 3.0
START_S: Final = 20.0
SCHEMES: Final = ("aws-kms:", "transit:")
_ANSWER_MAX: Final = 65_536
_LINE_MAX: Final = 8_192
_ROOT: Final = Path(__file__).parents[2]
_ERRORS: Final[dict[str, type[OublietteError]]] = {
    one.code: one for one in (KeyMissing, KeyUnavailable, IntegrityFailure, InvalidRequest)
}


def open_apart(uri: str, *, timeout_s: float = TIMEOUT_S) -> Deadline:
    """Open a provider as a service does: one behind a network gets a process of its own.

    Raises:
        As ``open_provider``.
    """
    opened = open_provider(uri, timeout_s=timeout_s)
    if not uri.startswith(SCHEMES):
        return opened
    opened_with = json.dumps({"uri": uri, "timeout_s": timeout_s})
    child = _Child(opened_with, patience_s=timeout_s + START_S, rest_s=timeout_s)
    return Deadline(Apart(opened.inner, child), Patience(timeout_s, PAUSE_S))


@dataclass(frozen=True)
class Apart:
    """``keys.ports.KeyProvider`` whose secrets pass through another process."""

    inner: KeyProvider
    child: _Child

    @property
    def uri(self) -> str:
        """Return the inner provider's URI."""
        return self.inner.uri

    @property
    def limits(self) -> tuple[str, ...]:
        """Return the inner provider's limits."""
        return self.inner.limits

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Make a key."""
        self.inner.create(key_id, tag)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return the living keys."""
        return self.inner.list_keys(controller_id)

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Wrap 32 bytes in the other process."""
        return bytes(self.child.ask("wrap", key_id, secret, context))

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes as the other process wrote them into a pipe."""
        return self.child.ask("unwrap", key_id, wrapped, context)

    def destroy(self, key_id: str) -> None:
        """Destroy a key."""
        self.inner.destroy(key_id)


@dataclass
class _Child:
    """The other process, started when it is needed; one call at a time.

    Attributes:
        opened_with: what it is told of the provider.
        patience_s: how long an answer may take to begin, the child's start included.
        rest_s: how long an answer that began may take to end.
    """

    opened_with: str
    patience_s: float
    rest_s: float
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _process: subprocess.Popen[bytes] | None = None
    _finalize: Callable[[], object] | None = None

    def ask(self, call: str, key_id: str, payload: bytes, context: bytes) -> bytearray:
        """Have one call made; raises what the provider raised."""
        said = {"call": call, "key_id": key_id, "context": context.hex(), "length": len(payload)}
        line = json.dumps(said).encode() + b"\n"
        with self._lock:
            for last in (False, True):
                try:
                    return self._ask(line, payload)
                except (OSError, EOFError) as err:
                    self._end()
                    if last:
                        raise KeyUnavailable(what="key-process-died") from err
        raise AssertionError

    def _ask(self, line: bytes, payload: bytes) -> bytearray:
        process = self._running()
        writer, reader = cast("Any", process.stdin).fileno(), cast("Any", process.stdout).fileno()
        for part in (line, payload):
            _write(writer, part)
        _await(reader, self.patience_s)
        until_s = time.monotonic() + self.rest_s
        answer = _said(_read_line(reader, until_s))
        if "error" in answer:
            raise _ERRORS.get(answer["error"], KeyUnavailable)(**answer["facts"])
        return _read(reader, answer["length"], until_s)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            paths = filter(None, (str(_ROOT), os.environ.get("PYTHONPATH", "")))
            self._process = subprocess.Popen(  # noqa: S603 - this program, by its own name
                [sys.executable, "-m", "keys.providers.apart", self.opened_with],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            )
            self._finalize = weakref.finalize(self, _end, self._process)
        return self._process

    def _end(self) -> None:
        finalize, self._process, self._finalize = self._finalize, None, None
        if finalize is not None:
            finalize()  # once, and it is known no more


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            cast("Any", pipe).close()


def serve(opened_with: str, reader: int, writer: int) -> None:
    """Answer calls until nobody asked for a while, or the other end is gone."""
    how = json.loads(opened_with)
    provider = open_provider(how["uri"], timeout_s=how["timeout_s"])
    while select.select([reader], [], [], IDLE_S)[0]:
        try:
            asked = json.loads(_read_line(reader))
            payload = bytes(_read(reader, asked["length"]))
        except (OSError, EOFError):
            return
        calls: dict[str, Callable[..., bytes | bytearray]] = {
            "wrap": provider.wrap,
            "unwrap": provider.unwrap,
        }
        try:
            result = calls[asked["call"]](asked["key_id"], payload, bytes.fromhex(asked["context"]))
        except OublietteError as err:
            facts = {name: str(fact) for name, fact in err.facts.items()}
            _write(writer, json.dumps({"error": err.code, "facts": facts}).encode() + b"\n")
        except Exception as err:  # noqa: BLE001 - its words may hold what was wrapped
            facts = {"what": "key-process-fault", "type": type(err).__name__}
            told = {"error": KeyUnavailable.code, "facts": facts}
            _write(writer, json.dumps(told).encode() + b"\n")
        else:
            _write(writer, json.dumps({"length": len(result)}).encode() + b"\n")
            _write(writer, result)


def _said(line: bytes) -> dict[str, Any]:
    """Return what the line before an answer says; what follows one that says nothing is no answer.

    Raises:
        EOFError: it says nothing; of the line, which may be a secret, it holds nothing.
    """
    with contextlib.suppress(ValueError):
        said = json.loads(line)
        if isinstance(said, dict) and (
            {"error", "facts"} <= said.keys() or type(said.get("length")) is int
        ):
            return said
    raise EOFError


def _write(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _await(descriptor: int, patience_s: float) -> None:
    """Return once there is something to read, or the other end is gone."""
    if not select.select([descriptor], [], [], max(0.0, patience_s))[0]:
        raise TimeoutError


def _read(descriptor: int, length: int, until_s: float | None = None) -> bytearray:
    """Read so many bytes, until an instant of the monotonic clock; what was read is wiped if not.

    Raises:
        TimeoutError, EOFError: they did not come.
    """
    if not 0 <= length <= _ANSWER_MAX:
        raise EOFError
    found = bytearray(length)
    try:
        _fill(descriptor, found, until_s)
    except (OSError, EOFError):
        wipe(found)
        raise
    return found


def _fill(descriptor: int, found: bytearray, until_s: float | None) -> None:
    at = 0
    while at < len(found):
        if until_s is not None:
            _await(descriptor, until_s - time.monotonic())
        count = os.readv(descriptor, [memoryview(found)[at:]])
        if not count:
            raise EOFError
        at += count


def _read_line(descriptor: int, until_s: float | None = None) -> bytes:
    """Read one line and nothing behind it: what follows may be a secret."""
    line = bytearray()
    while not line.endswith(b"\n"):
        if until_s is not None:
            _await(descriptor, until_s - time.monotonic())
        byte = os.read(descriptor, 1)
        if not byte or len(line) > _LINE_MAX:
            raise EOFError
        line += byte
    return bytes(line)


def _say_type(kind: type[BaseException], *_: object) -> None:
    """Say what ended this process and none of its words, which may hold a secret."""
    sys.stderr.write(f"key process ended: {kind.__name__}\n")


if __name__ == "__main__":
    sys.excepthook = _say_type
    serve(sys.argv[1], sys.stdin.fileno(), sys.stdout.fileno())
