"""What a restore or a rebuild found and did, for whoever ran it."""

from __future__ import annotations

from dataclasses import dataclass, field

from retention.restore_erasures import UndoneErasure
from retention.restore_objects import FoundObjects
from retention.set_aside import SetAside


@dataclass
class RestoreReport:
    """What a restore found and did.

    Attributes:
        epochs: of each controller's key material now.
        lost_controllers: whose key material no place and provider opens any more (a rebuild only).
        shredded_rows: rows of the backup whose keys are gone.
        returned_rows: recordings that the backup did not know.
        returned_campaigns, replayed: made again, and changed, from the ledger.
        recounted_grants: whose counters of listens rose to what the ledger says.
        corrected: recordings whose corrected metadata came back; ``lost_corrections``: whose first
            version rules again, because the ledger's entry is of before it held corrections.
        set_aside: objects that nobody vouches for, with the reason, the first 1 000.
        set_aside_count: of all of them.
        dead_objects: sealed objects without a row whose keys are gone: noise.
        missing_objects: ids of living recordings whose object is not in the store, the first 1 000.
        missing_count: of all of them.
        unreadable_entries: of the ledger, whose month is forgotten or whose text is lost.
        undone_erasures: approved since the backup and not destroyed by the disaster; their
            recordings live again, and the officer plans them anew after the release.
        release_hold_ids: what an officer lifts to end the restore.
        anchor: what the ledger was compared with outside; ``none`` where there is no anchor.
    """

    epochs: dict[str, int] = field(default_factory=dict)
    lost_controllers: list[str] = field(default_factory=list)
    ledger_size: int = 0
    shredded_rows: int = 0
    returned_rows: int = 0
    returned_campaigns: int = 0
    replayed: int = 0
    recounted_grants: int = 0
    corrected: int = 0
    lost_corrections: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    set_aside_count: int = 0
    dead_objects: int = 0
    missing_objects: list[str] = field(default_factory=list)
    missing_count: int = 0
    unreadable_entries: int = 0
    undone_erasures: list[UndoneErasure] = field(default_factory=list)
    release_hold_ids: list[str] = field(default_factory=list)
    anchor: str = "none"

    def note_objects(self, found: FoundObjects) -> None:
        """Take over what a walk over the store found."""
        self.returned_rows = found.returned
        self.dead_objects = found.dead
        self.set_aside, self.set_aside_count = found.set_aside, found.set_aside_count
        self.missing_objects, self.missing_count = found.missing, found.missing_count
