"""Steps 2 to 7 of a shred, as small steps between which anything may happen.

Each process is a generator; between two ``yield`` it may be stopped for good or sleep, another one
runs, time passes. ``rules`` names what a test can switch off. The steps are those of
docs/key-tree.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from tests.model.rules import Rules
from tests.model.values import Database, Entry, Pointer, Stop, Unknown
from tests.model.world import LEASE_S, SLACK_S, World

Steps = Generator[None, None, None]


class Protocol:
    """The processes of one schedule, under one set of rules."""

    def __init__(self, world: World, rules: Rules) -> None:
        self.world = world
        self.rules = rules

    def shred(self, me: str, targets: Callable[[Database], int]) -> Generator[None, None, int]:
        """Puncture what ``targets`` asks for, under the lock; return what that was."""
        yield from self.take_lock(me)
        try:
            return (yield from self._shred_locked(me, targets))
        finally:
            self.release_lock(me)

    def release_lock(self, me: str) -> None:
        """Release the controller's lock, unless somebody else holds it by now."""
        if self.world.lock == me:
            self.world.lock = ""

    def take_lock(self, me: str) -> Steps:
        for _ in range(30):
            if not self.world.lock or not self.world.lock_excludes:
                self.world.lock = me
                return
            yield
        raise Stop

    def _shred_locked(
        self, me: str, targets: Callable[[Database], int]
    ) -> Generator[None, None, int]:
        rules = self.rules
        for _ in range(6):
            pointer = yield from self._lease_for_change(me)
            yield from self.finish_epoch(pointer)
            cover = self.open_pointer(pointer)
            yield
            wanted = self.world.transact(targets)
            if cover & wanted or not self.is_alone(pointer):
                changed = yield from self.change(pointer, cover & ~wanted)
                if not changed:
                    continue
                pointer = changed
            if rules.epoch_finished_before_certificate:
                yield from self.finish_epoch(pointer)
                if not self.is_alone(pointer):
                    continue
                yield from self._barrier(me, pointer)
            return wanted
        raise Stop

    def lease(self, database: Database, me: str) -> Pointer:
        """Write a lease on the pointer's epoch, in the transaction that reads it."""
        database.leases[me] = (database.pointer.key, self.world.now + LEASE_S)
        return database.pointer

    def _lease_for_change(self, me: str) -> Generator[None, None, Pointer]:
        yield
        pointer = self.world.transact(lambda base: self.lease(base, me))
        yield
        return pointer

    def open_pointer(self, pointer: Pointer) -> int:
        """Return the cover of a pointer, or stop."""
        cover = self.open_blob(pointer.blob)
        if cover is None:
            raise Stop
        return cover

    def open_blob(self, name: int) -> int | None:
        """Return a blob's cover; None when its key is destroyed; stop when something is silent."""
        world = self.world
        if not world.where(name):
            raise Stop
        blob = world.blobs[name]
        return blob.cover if world.material(blob.key) == blob.material else None

    def change(
        self, pointer: Pointer, cover: int, above: int = 0
    ) -> Generator[None, None, Pointer | None]:
        """Steps 3 to 5, with an epoch above every living key's; None when another was faster."""
        world, rules = self.world, self.rules
        epoch = 1 + max(pointer.epoch, above, *world.list_keys().values())
        yield
        key = f"k{world.fresh()}" if rules.random_key_ids else f"e{epoch}"
        world.create_key(key, epoch)
        yield
        if rules.reread_after_create and world.transact(lambda base: base.pointer) != pointer:
            world.destroy_key(key)
            return None
        yield
        material = world.material(key)
        if not material:
            raise Stop
        blob = world.make_blob(epoch, key, material, cover)
        yield from self._write_blob(blob, key)
        changed = Pointer(epoch, key, blob)
        if not rules.destroy_after_swap:
            yield from self._destroy_others(changed, verify=False)
        yield
        try:
            is_swapped = self.swap(pointer, changed)
        except Unknown:
            yield
            if not rules.unknown_commit_left_alone:
                world.destroy_key(key)
            raise
        if not is_swapped:
            self._give_up(key)
            return None
        return changed

    def _write_blob(self, blob: int, key: str) -> Steps:
        world = self.world
        confirmed = 0
        for place in range(len(world.places)):
            confirmed += world.put_blob(place, blob)
            yield
        enough = world.enough if self.rules.enough_places else 1
        if confirmed < enough or self.open_blob(blob) is None:
            self._give_up(key)
            raise Stop

    def _give_up(self, key: str) -> None:
        """Destroy a key that will not be used, or leave it to a later step 6: both must do."""
        if self.world.rnd.random() < 0.5:
            self.world.destroy_key(key)

    def swap(self, before: Pointer, after: Pointer) -> bool:
        """Step 5: compare-and-set of the pointer, with the journal's entry."""
        rules = self.rules

        def swap(database: Database) -> bool:
            if rules.swap_compares_pointer and database.pointer != before:
                return False
            database.pointer = after
            database.destroyed_epoch = min(database.destroyed_epoch, after.epoch - 1)
            database.queue += (Entry("epoch-changed", after.epoch),)
            return True

        return self.world.transact(swap)

    def finish_epoch(self, pointer: Pointer) -> Steps:
        """Step 6: destroy every other key up to this epoch, once the pointer's own is proved."""
        world = self.world
        if world.transact(lambda base: base.destroyed_epoch) >= pointer.epoch:
            return
        yield
        yield from self._destroy_others(pointer, verify=True)

    def _destroy_others(self, pointer: Pointer, *, verify: bool) -> Steps:
        world = self.world
        listed = world.list_keys()
        yield
        if verify:
            yield from self._verify(pointer)
        for name, epoch in sorted(listed.items()):
            if name != pointer.key and self._is_doomed(epoch, pointer):
                yield
                world.destroy_key(name)
        if verify:
            world.transact(lambda base: self._confirm(base, pointer))

    def _is_doomed(self, epoch: int, pointer: Pointer) -> bool:
        if not self.rules.every_other_key_destroyed:
            return epoch == pointer.epoch - 1
        return epoch <= pointer.epoch or not self.rules.spares_later_epochs

    def is_alone(self, pointer: Pointer) -> bool:
        """Tell whether the provider lists the pointer's key and no other one."""
        return not self.rules.done_only_when_alone or set(self.world.list_keys()) == {pointer.key}

    def _confirm(self, database: Database, pointer: Pointer) -> None:
        if database.pointer != pointer:
            raise Stop
        self.open_pointer(pointer)
        database.destroyed_epoch = pointer.epoch

    def _verify(self, pointer: Pointer) -> Steps:
        """Show that the pointer is still this one and its blob opens from enough places."""
        world = self.world
        if world.transact(lambda base: base.pointer) != pointer:
            raise Stop
        if self.rules.reopened_before_destroy:
            yield from self.prove(pointer)
        world.place_may_be_lost |= world.database.pointer == pointer
        yield

    def prove(self, pointer: Pointer) -> Steps:
        """Open the blob from enough places, bringing it to those that lack it."""
        world = self.world
        if self.open_blob(pointer.blob) is None:
            raise Stop
        yield from self.copy_to_all(pointer)
        if self.rules.enough_places and len(world.where(pointer.blob)) < world.enough:
            raise Stop

    def copy_to_all(self, pointer: Pointer) -> Steps:
        world = self.world
        for place in range(len(world.places)) if self.rules.lost_copies_replaced else ():
            if place not in world.where(pointer.blob):
                world.put_blob(place, pointer.blob)
                yield

    def _barrier(self, me: str, pointer: Pointer) -> Steps:
        """Step 7: wait until no lease on another key is in force; its own it gives back."""
        world = self.world
        world.transact(lambda base: base.leases.pop(me, None))
        yield
        while self.rules.barrier:
            leases = world.transact(lambda base: list(base.leases.values()))
            late = [end for key, end in leases if key != pointer.key]
            if all(end + SLACK_S <= world.now for end in late):
                return
            yield
