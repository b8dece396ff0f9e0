"""A key provider that fails at its n-th call, in each of the ways in which providers fail.

    refuse   answers no, from that call on, and does nothing
    hang     does not come back, from that call on; what it was asked for it does much later
    after    does it and answers no, that once
    twice    does it twice and answers as the second time went, that once
    forget   knows no key any more, from that call on
    blind    lists no key any more, from that call on; keys still work

``heal`` ends it. Strict: a call that the port does not know is an error.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.ports import KeyProvider, KeyTag, ListedKey
from keys.providers.deadline import Patience

MODES: Final = ("refuse", "hang", "after", "twice", "forget", "blind")
LASTING: Final = frozenset({"refuse", "hang", "forget", "blind"})
SILENCE_S: Final = 0.3
PATIENT_S: Final = 60.0
HANGS_S: Final = 60.0


@dataclass
class FaultyProvider:
    """Wrap it in a ``Deadline``: nobody else ends a call that hangs."""

    inner: KeyProvider
    mode: str
    at: int
    calls: list[str] = field(default_factory=list)
    healed: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        assert self.mode in MODES

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def limits(self) -> tuple[str, ...]:
        return self.inner.limits

    @property
    def was_met(self) -> bool:
        """Tell whether the call at which it fails was made."""
        return len(self.calls) > self.at

    @property
    def hangs_next(self) -> bool:
        """Tell whether the next call does not come back."""
        is_due = self.mode == "hang" and len(self.calls) >= self.at
        return is_due and not self.healed.is_set()

    def heal(self) -> None:
        self.healed.set()

    def create(self, key_id: str, tag: KeyTag) -> None:
        self._call("create", lambda: self.inner.create(key_id, tag), lambda: None)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        found: Sequence[ListedKey] = self._call(
            "list_keys", lambda: self.inner.list_keys(controller_id), list
        )
        return found

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        wrapped: bytes = self._call(
            "wrap", lambda: self.inner.wrap(key_id, secret, context), _raising(KeyUnavailable)
        )
        return wrapped

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        secret: bytearray = self._call(
            "unwrap", lambda: self.inner.unwrap(key_id, wrapped, context), _raising(KeyMissing)
        )
        return secret

    def destroy(self, key_id: str) -> None:
        self._call("destroy", lambda: self.inner.destroy(key_id), lambda: None)

    def _call(self, name: str, act: Callable[[], Any], forgotten: Callable[[], Any]) -> Any:
        number = next(self._numbers)
        self.calls.append(name)
        reached = number >= self.at if self.mode in LASTING else number == self.at
        if not reached or self.healed.is_set():
            return act()
        return self._fail(name, act, forgotten)

    def _fail(self, name: str, act: Callable[[], Any], forgotten: Callable[[], Any]) -> Any:
        if self.mode == "refuse":
            raise _no(name)
        if self.mode == "after":
            act()
            raise _no(name)
        if self.mode == "twice":
            act()
            return act()
        if self.mode == "hang":
            assert self.healed.wait(HANGS_S)
            return act()
        return act() if self.mode == "blind" and name != "list_keys" else forgotten()


def _no(name: str) -> Exception:
    return DestructionUnconfirmed() if name == "destroy" else KeyUnavailable()


def _raising(error: type[Exception]) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


class OnlyWhatHangs(Patience):
    """Soon done with a call that hangs; any other is waited for, as a busy machine is slow."""

    def __init__(self, provider: FaultyProvider, pause_s: float) -> None:
        super().__init__(PATIENT_S, pause_s)
        self._provider: Final = provider

    def enter(self) -> bool:
        vars(self)["timeout_s"] = SILENCE_S if self._provider.hangs_next else PATIENT_S
        return super().enter()
