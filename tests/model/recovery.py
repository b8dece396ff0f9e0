"""Recovery, at start and on a timer: back to a pointer that opens, and on from there."""

from __future__ import annotations

from collections.abc import Generator

from tests.model.protocol import Protocol, Steps
from tests.model.rules import Rules
from tests.model.values import Blob, Pointer, Stop
from tests.model.world import World


class Recovery:
    """The processes that bring key material back, under one set of rules."""

    def __init__(self, world: World, rules: Rules, protocol: Protocol) -> None:
        self.world = world
        self.rules = rules
        self.protocol = protocol

    def recover(self, me: str) -> Steps:
        yield from self.protocol.take_lock(me)
        try:
            yield from self._recover_locked()
        finally:
            self.protocol.release_lock(me)

    def _recover_locked(self) -> Steps:
        world = self.world
        pointer = world.transact(lambda base: base.pointer)
        yield
        if not self.rules.recovery_opens_before_it_destroys:
            yield from self._clean_up(pointer)
        if not self._pointer_opens(pointer):
            yield
            pointer = yield from self._adopt(pointer)
        else:
            yield from self.protocol.copy_to_all(pointer)
        yield
        yield from self.protocol.finish_epoch(pointer)

    def _clean_up(self, pointer: Pointer) -> Steps:
        """What a janitor would do that believes the database."""
        world = self.world
        for name, epoch in sorted(world.list_keys().items()):
            if name != pointer.key and epoch <= pointer.epoch + 1:
                world.destroy_key(name)
                yield

    def _pointer_opens(self, pointer: Pointer) -> bool:
        """Tell whether the pointer's key material is there; stop when that cannot be known."""
        world = self.world
        if world.where(pointer.blob):
            return self.protocol.open_blob(pointer.blob) is not None
        if not all(world.is_up) and world.material(pointer.key):
            raise Stop
        return False

    def _adopt(self, pointer: Pointer) -> Generator[None, None, Pointer]:
        """Take the cover of the highest epoch that opens, and seal it under a key of its own."""
        world = self.world
        found: dict[int, Blob] = {}
        for place, held in enumerate(world.places):
            for name in sorted(held) if world.is_up[place] else []:
                if name not in found and self.protocol.open_blob(name) is not None:
                    found[name] = world.blobs[name]
            yield
        if not found:
            raise Stop
        best = max(found, key=lambda name: (found[name].epoch, name))
        if not self.rules.adopted_cover_gets_fresh_key:
            return (
                yield from self._reuse(pointer, Pointer(found[best].epoch, found[best].key, best))
            )
        changed = yield from self.protocol.change(pointer, found[best].cover, found[best].epoch)
        if not changed:
            raise Stop
        return changed

    def _reuse(self, pointer: Pointer, adopted: Pointer) -> Generator[None, None, Pointer]:
        """Set the pointer to a blob that somebody else wrote."""
        yield from self.protocol.prove(adopted)
        yield
        if not self.protocol.swap(pointer, adopted):
            raise Stop
        return adopted
