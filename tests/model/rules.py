"""The rules of the key protocol, one switch each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rules:
    """Each rule that the protocol cannot do without; True is how it is built."""

    random_key_ids: bool = True
    recovery_opens_before_it_destroys: bool = True
    every_other_key_destroyed: bool = True
    done_only_when_alone: bool = True
    spares_later_epochs: bool = True
    reread_after_create: bool = True
    lease_under_row_lock: bool = True
    last_chunk_checked: bool = True
    failed_attempts_punctured: bool = True
    ledger_comes_forward: bool = True
    enough_places: bool = True
    destroy_after_swap: bool = True
    reopened_before_destroy: bool = True
    swap_compares_pointer: bool = True
    unknown_commit_left_alone: bool = True
    adopted_cover_gets_fresh_key: bool = True
    epoch_finished_before_certificate: bool = True
    barrier: bool = True
    lease_counts_from_sending: bool = True
    cover_dropped_before_lease_moves: bool = True
    attempt_compare_and_set: bool = True
    counters_jump: bool = True
    counters_jump_past_punctured: bool = True
    restore_required: bool = True
    restore_waits_out_leases: bool = True
    lost_copies_replaced: bool = True
    dead_attempts_join_shred: bool = True
    erasures_replayed: bool = True
    sessions_end_at_restore: bool = True
