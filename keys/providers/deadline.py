"""A provider that answers in time, or counts as silent: the deadline around every call.

A call into a token's library or over a network may block for ever, and the caller may hold a
pointer's row meanwhile. So each call runs in a thread of its own; when its time is up the caller
goes on without it, as with any call whose outcome is not known: a key may exist, may be destroyed,
or may be made later, after the caller gave up. The key protocol expects all of that: a late key has
wrapped nothing, and the next step 6 lists it.

After a call ran out of time, further calls are refused at once for a few seconds, so that nobody
queues up holding a row. The first answer, also a late one, ends that.

Does not protect against: a library that never returns keeps its thread; after eight of them every
call is refused until one returns.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from keys.errors import DestructionUnconfirmed, KeyUnavailable
from keys.material import wipe
from keys.ports import KeyProvider, KeyTag, ListedKey

TIMEOUT_S: Final = 10.0
PAUSE_S: Final = 5.0
CALLS_MAX: Final = 8
SILENT: Final = "key-provider-silent"

Result = TypeVar("Result")
_LOG: Final = logging.getLogger(__name__)


class Patience:
    """What is known of a provider's silence, shared by all calls to it.

    Args:
        timeout_s: how long one call may take.
        pause_s: how long calls are refused after one that took longer.

    Attributes:
        is_up: whether the newest call was answered, with a no as well as with a yes.
    """

    def __init__(self, timeout_s: float, pause_s: float) -> None:
        self.timeout_s: Final = timeout_s
        self._pause_s: Final = pause_s
        self._slots: Final = threading.BoundedSemaphore(CALLS_MAX)
        self._silent_until_s = 0.0
        self._is_silent = False
        self.is_up = True

    def enter(self) -> bool:
        """Take a slot for one call; False when it is not worth trying."""
        if self._is_silent and time.monotonic() < self._silent_until_s:
            return False
        return self._slots.acquire(blocking=False)

    def leave(self, *, answered: bool) -> None:
        """Give the slot back: the call came back, however late."""
        self._is_silent = False
        self.is_up = answered
        self._slots.release()

    def give_up(self) -> None:
        """Note that a call ran out of time."""
        self._silent_until_s = time.monotonic() + self._pause_s
        self._is_silent = True
        self.is_up = False


@dataclass(frozen=True)
class Deadline:
    """``keys.ports.KeyProvider`` around another one, with a time limit on every call."""

    inner: KeyProvider
    patience: Patience = field(default_factory=lambda: Patience(TIMEOUT_S, PAUSE_S))

    @property
    def uri(self) -> str:
        """Return the inner provider's URI."""
        return self.inner.uri

    @property
    def limits(self) -> tuple[str, ...]:
        """Return the inner provider's limits."""
        return self.inner.limits

    @property
    def is_up(self) -> bool:
        """Tell whether the newest call was answered; true before there was one."""
        return self.patience.is_up

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Make a key; out of time, it may exist now or later."""
        self._within("create", lambda: self.inner.create(key_id, tag))

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return the living keys."""
        return self._within("list", lambda: self.inner.list_keys(controller_id))

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Wrap 32 bytes; the call that ran out of time may hold them until it returns."""
        return self._within("wrap", lambda: self.inner.wrap(key_id, secret, context))

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes; those of a late answer are zeroed."""
        return self._within("unwrap", lambda: self.inner.unwrap(key_id, wrapped, context))

    def destroy(self, key_id: str) -> None:
        """Destroy a key; out of time, it may still exist."""
        try:
            self._within("destroy", lambda: self.inner.destroy(key_id))
        except KeyUnavailable as err:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri) from err

    def _within(self, name: str, call: Callable[[], Result]) -> Result:
        if not self.patience.enter():
            raise KeyUnavailable(what=SILENT, provider=self.uri)
        running = _Call(call, lambda answered: self.patience.leave(answered=answered))
        threading.Thread(target=running.run, name=f"key-provider-{name}", daemon=True).start()
        if not running.wait(self.patience.timeout_s):
            self.patience.give_up()
            _LOG.error("key provider is silent: %s, %s", self.uri, name)
            raise KeyUnavailable(what=SILENT, provider=self.uri, call=name)
        return cast("Result", running.result())


class _Call:
    """One call in a thread of its own, and whether anybody still waits for it."""

    def __init__(self, call: Callable[[], Any], on_return: Callable[[bool], None]) -> None:
        self._call: Final = call
        self._on_return: Final = on_return
        self._guard: Final = threading.Lock()
        self._returned: Final = threading.Event()
        self._is_abandoned = False
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do it; a secret that comes too late is zeroed."""
        try:
            self._value = self._call()
        except BaseException as err:  # noqa: BLE001 - it belongs to the thread that waits
            self._error = err
        answered = not isinstance(self._error, (KeyUnavailable, DestructionUnconfirmed))
        self._on_return(answered)
        with self._guard:
            if self._is_abandoned and isinstance(self._value, bytearray):
                wipe(self._value)
            self._returned.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the answer; False gives it up."""
        self._returned.wait(timeout_s)
        with self._guard:
            self._is_abandoned = not self._returned.is_set()
        return not self._is_abandoned

    def result(self) -> Any:
        """Return what the call returned, or raise what it raised."""
        if self._error is not None:
            raise self._error
        return self._value
