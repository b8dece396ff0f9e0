"""The rules of the key protocol, one switch each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """Each rule that the protocol cannot do without; True is how it is built."""

    # a key id is random and never used twice; off: it is the epoch's number
    random_key_ids: bool = True
    # nothing is destroyed before the pointer's blob has opened
    recovery_opens_before_it_destroys: bool = True
    # step 6 takes all keys up to its epoch; off: the predecessor's only
    every_other_key_destroyed: bool = True
    # an erasure is done when the provider lists no other key
    done_only_when_alone: bool = True
    # step 6 leaves keys above its epoch alone
    spares_later_epochs: bool = True
    # step 3 reads the pointer again before anything is written
    reread_after_create: bool = True
    # pointer and lease in one transaction
    lease_under_row_lock: bool = True
    # a listen opens the last chunk before it names a length
    last_chunk_checked: bool = True
    # an attempt that does not become a recording is punctured
    failed_attempts_punctured: bool = True
    # a restore keeps the ledger's tiles; off: they come from the backup
    ledger_comes_forward: bool = True
    # a change waits for enough places; off: for one
    enough_places: bool = True
    # older keys go only after step 5
    destroy_after_swap: bool = True
    # the blob is opened from enough places once more before step 6
    reopened_before_destroy: bool = True
    # step 5 compares before it sets
    swap_compares_pointer: bool = True
    # the key stays when the outcome of step 5 is unknown
    unknown_commit_left_alone: bool = True
    # recovery seals the cover it adopts anew; off: it takes the blob as it is
    adopted_cover_gets_fresh_key: bool = True
    # steps 6 and 7 also run when another has punctured
    epoch_finished_before_certificate: bool = True
    # step 7 waits for leases on older keys
    barrier: bool = True
    # a lease counts from before it was asked for
    lease_counts_from_sending: bool = True
    # a lease on the newer key is written with the older cover gone
    cover_dropped_before_lease_moves: bool = True
    # an attempt becomes a recording only while it is open
    attempt_compare_and_set: bool = True
    # a restore moves counters past what was handed out
    counters_jump: bool = True
    # ... and past what any cover that opens has lost
    counters_jump_past_punctured: bool = True
    # an old database is not served before a restore
    restore_required: bool = True
    # a restore waits for leases that the old database does not know
    restore_waits_out_leases: bool = True
    # recovery and step 6 copy the blob to places that lack it
    lost_copies_replaced: bool = True
    # every shred takes the dead attempts too
    dead_attempts_join_shred: bool = True
    # a restore takes up erasures that only the ledger knows
    erasures_replayed: bool = True
    # who slept through a restore can do no transaction
    sessions_end_at_restore: bool = True
