"""``vault.ports.MessageKeys`` in memory: real seals, leaves that a test may destroy."""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from keys import wrap
from keys.errors import KeyUnavailable, LeafPunctured
from keys.model import Subject

_Leaf = tuple[str, int, int]


@dataclass
class FakeKeyring:
    """Draws a seed for each leaf that is asked for; refuses leaves that were punctured.

    Attributes:
        needs_warming: ``seal`` and ``open`` refuse a controller that was never warmed.
        unavailable: controllers whose tree cannot be used now.
        secret: makes the same seeds in another process; None draws them.
    """

    needs_warming: bool = True
    unavailable: set[str] = field(default_factory=set)
    secret: bytes | None = None
    warmed: set[str] = field(default_factory=set)
    _seeds: dict[_Leaf, bytes] = field(default_factory=dict, repr=False)
    _punctured: set[_Leaf] = field(default_factory=set)

    def warm(self, controller_id: str) -> None:
        if controller_id in self.unavailable:
            raise KeyUnavailable(controller_id=controller_id)
        self.warmed.add(controller_id)

    def puncture(self, controller_id: str, prefix: int, index: int) -> None:
        """Destroy one leaf for good."""
        self._punctured.add((controller_id, prefix, index))
        self._seeds.pop((controller_id, prefix, index), None)

    def seal(self, subject: Subject, label: bytes, clear: bytes, *, context: bytes = b"") -> bytes:
        seed = self._seed(subject)
        return wrap.seal_message(seed, label, subject, clear, os.urandom(12), context=context)

    def seal_all(self, messages: Sequence[tuple[Subject, bytes]], label: bytes) -> list[bytes]:
        return [self.seal(subject, label, clear) for subject, clear in messages]

    def open(self, subject: Subject, label: bytes, sealed: bytes, *, context: bytes = b"") -> bytes:
        return wrap.open_message(self._seed(subject), label, subject, sealed, context=context)

    def open_kept(self, subject: Subject, label: bytes, sealed: bytes) -> bytes:
        return self.open(subject, label, sealed)

    def _seed(self, subject: Subject) -> bytes:
        controller_id = subject.controller_id
        cold = self.needs_warming and controller_id not in self.warmed
        if cold or controller_id in self.unavailable:
            raise KeyUnavailable(controller_id=controller_id)
        leaf = (controller_id, subject.prefix, subject.index)
        if leaf in self._punctured:
            raise LeafPunctured(controller_id=controller_id)
        drawn = os.urandom(32) if self.secret is None else _derived(self.secret, leaf)
        return self._seeds.setdefault(leaf, drawn)


def _derived(secret: bytes, leaf: _Leaf) -> bytes:
    return hmac.digest(secret, repr(leaf).encode(), "sha256")
