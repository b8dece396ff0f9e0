"""Whether an export may be asked for, may begin, and whether each of its recordings may leave."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.engine import Connection

from vault import listen_store
from vault.access import Actor
from vault.errors import ExportConflict, RecordingNotFound
from vault.export_rows import Export
from vault.grant import Permit
from vault.listen import scene_of
from vault.listen_store import Heard
from vault.ports import RetentionGate
from vault.rights import Rights

ATTEMPTS_MAX: Final = 3
RECORDINGS_MAX: Final = 100


@dataclass(frozen=True)
class Leaving:
    """A recording that may leave, and the right by which it may."""

    heard: Heard
    permit: Permit


def check_list(recording_ids: tuple[str, ...]) -> None:
    """Refuse a list that no export can be.

    Raises:
        ExportConflict: empty, above 100, or one of them twice.
    """
    if not 0 < len(recording_ids) <= RECORDINGS_MAX:
        raise ExportConflict(why="count", count_max=RECORDINGS_MAX)
    if len(set(recording_ids)) != len(recording_ids):
        raise ExportConflict(why="repeated")


def check_may_begin(actor: Actor, row: Export, *, now: datetime) -> None:
    """Refuse to begin an export that is somebody else's, done, or over.

    Raises:
        ExportConflict: the fact ``why`` says which.
    """
    if row.actor_id != actor.id:
        raise ExportConflict(why="not-yours")
    if row.state == "done":
        raise ExportConflict(why="done")
    if row.expires_at <= now:
        raise ExportConflict(why="expired")
    if row.attempts >= ATTEMPTS_MAX:
        raise ExportConflict(why="attempts", attempts_max=ATTEMPTS_MAX)


def may_leave(
    connection: Connection,
    actor: Actor,
    recording_id: str,
    purpose: str,
    *,
    rights: Rights,
    gate: RetentionGate,
    counted: bool,
) -> Leaving:
    """Decide, in the open transaction, whether one recording may leave; its row is held.

    Args:
        connection: the open transaction.
        actor: who exports.
        recording_id: ``rec_`` id.
        purpose: why.
        rights: who may hear, and so export.
        gate: what is restricted.
        counted: it was counted against its grant's cap already.

    Raises:
        RecordingErased, RecordingNotFound, ListenDenied: it may not.
    """
    heard = listen_store.find_heard(connection, actor.controller_id, recording_id, lock=True)
    if heard is None or not actor.covers(heard.campaign_slug):
        raise RecordingNotFound
    scene = scene_of(connection, gate, heard)
    return Leaving(heard, rights.permit(connection, actor, scene, purpose, counted=counted))
