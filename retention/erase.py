"""The erase flow: plan -> execute -> shred -> tombstones -> certificate; objects go afterwards.

1. ``plan`` freezes what would go and what is protected; nothing changes.
2. ``execute`` repeats the plan's digest, compares the plan with what is there and takes step 1
   (``retention.first_step``): from its commit on nobody hears the recordings.
3. ``run`` does the rest and may be called again after any crash, by any process: ``keys.shred``
   (steps 2 to 7), the tombstones (step 8), the certificate once a checkpoint covers their entries.

A key provider that cannot confirm leaves the erasure ``waiting-key-provider``: the recordings stay
unheard, nothing is certified, and the sweep tries again.

Does not protect against: see ``docs/erasure.md``; what a certificate may say, and may not.

Source: GDPR Art. 17, 5(1)(e), 28(3)(g); NIST SP 800-88 rev. 2.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import OublietteError
from core.ports import Clock
from keys.keyring import Keyring
from keys.shred import Shredder
from keys.signing import NoteSigner
from retention import erasure_rows, first_step, plan, protection
from retention.certification import Certification
from retention.erasure_rows import UNFINISHED, Erasure
from retention.errors import (
    CertificatePending,
    ErasureConflict,
    PlanChanged,
    RetentionError,
)
from retention.first_step import FirstStep
from retention.four_eyes import Agreed, FourEyes
from retention.planning import Planning
from retention.rerun import Reruns
from retention.shred_step import ShredStep
from retention.target import ErasureRequest
from retention.tombstone import Tombstones
from vault.access import Actor
from vault.ledger.anchor import Anchoring
from vault.ledger.append import Ledger
from vault.listen_account import ListenAccounts

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Erase:
    """Erases recordings for good. The caller has checked the role; the scope is checked here."""

    database: Database
    ledger: Ledger
    planning: Planning
    first_step: FirstStep
    reruns: Reruns
    shred_step: ShredStep
    tombstones: Tombstones
    certification: Certification
    four_eyes: FourEyes | None = None

    @classmethod
    def of(
        cls,
        *,
        database: Database,
        keyring: Keyring,
        shredder: Shredder,
        ledger: Ledger,
        listens: ListenAccounts,
        signer: NoteSigner,
        clock: Clock,
        region: str,
        anchoring: Anchoring | None = None,
        hsm_backup_policy: str = "",
        four_eyes: FourEyes | None = None,
    ) -> Self:
        """Compose the flow from this process's ports.

        ``signer`` is the vault's, named by the ledger's origin; ``region`` says how to read numbers
        without a country code; ``anchoring`` keeps checkpoints outside, if anything does;
        ``hsm_backup_policy`` is printed on certificates where keys lay in HSMs; ``four_eyes`` asks
        a second person, where there is one to ask.
        """
        first = FirstStep(ledger, listens)
        return cls(
            database=database,
            ledger=ledger,
            planning=Planning(database, keyring, ledger, clock, region),
            first_step=first,
            reruns=Reruns(database, keyring, ledger, first, clock, region),
            shred_step=ShredStep(database, shredder),
            tombstones=Tombstones(database, ledger),
            certification=Certification(
                database, ledger, signer, clock, anchoring, hsm_backup_policy
            ),
            four_eyes=four_eyes,
        )

    def plan(self, actor: Actor, request: ErasureRequest) -> Erasure:
        """Freeze what would be erased; one ``erasure-requested`` entry, nothing else changes.

        Raises:
            ReasonRequired, InvalidRequest: the request is not whole.
            RecordingNotFound, CampaignNotFound: outside the actor's scope.
            RecordingErased: the one recording is erased already.
            KeyUnavailable, LedgerUnavailable: nothing was planned.
        """
        return self.planning.make(actor, request)

    def execute(self, actor: Actor, erasure_id: str, plan_digest: str) -> Erasure:
        """Approve a plan and take its first step; then call ``run``, or leave it to the sweep.

        The same execution again returns the erasure as it is now.

        Raises:
            ErasureNotFound: none in the actor's scope.
            PlanChanged: another digest, or something changed since; nothing was erased.
            HoldInForce, RestrictionInForce, RetentionFloor: all of it is protected, or a part of
                a campaign; the plan is refused for good.
            ErasureConflict: it was refused, its campaign is not closed, or nothing would go.
            UploadsInProgress: the campaign still receives.
            ApprovalRequired: a second person must agree first; then the same execution again.
        """
        wanted = self.planning.look_again(actor, erasure_id, plan_digest)
        agreed = self._second_person(actor, erasure_id)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            protection.serialise(connection, actor.controller_id)
            erasure = erasure_rows.find_in_scope(connection, actor, erasure_id, lock=True)
            if erasure.plan_digest != plan_digest:
                raise PlanChanged(erasure=erasure.id)
            if erasure.state not in {"planned", "approved", "refused"}:
                return erasure
            refusal = self._verdict(connection, actor, erasure)
            if refusal is None:
                agreed.use(connection)
                now = self.database.now(connection)
                self.first_step.take(connection, erasure, actor=actor, now=now, wanted=wanted)
                return erasure_rows.find(connection, erasure_id)
        raise refusal

    def get(self, actor: Actor, erasure_id: str) -> Erasure:
        """Return an erasure.

        Raises:
            ErasureNotFound: none in the actor's scope.
        """
        with self.database.read() as connection:
            return erasure_rows.find_in_scope(connection, actor, erasure_id)

    def list(self, actor: Actor, state: str) -> tuple[Erasure, ...]:
        """Return the erasures of the actor's scope in one state, oldest first, without items."""
        with self.database.read() as connection:
            return erasure_rows.find_all(connection, actor, state)

    def certificate(self, actor: Actor, erasure_id: str) -> str:
        """Return the signed certificate of a finished erasure; always the same text.

        Raises:
            ErasureNotFound: none in the actor's scope.
            CertificatePending: not finished, or its entry is not under a checkpoint yet.
            ErasureConflict: nothing was erased, so nothing is certified.
        """
        erasure = self.get(actor, erasure_id)
        if erasure.state == "refused" or (erasure.state == "done" and not erasure.shred_entry_id):
            raise ErasureConflict(erasure=erasure.id, state=erasure.state, reason="nothing-erased")
        text = self.certification.issue(erasure_id, wait_s=0)
        if text is None:
            raise CertificatePending(erasure=erasure.id, state=erasure.state)
        return text

    def run(self, erasure_id: str, *, wait_s: float = 0) -> Erasure:
        """Do whatever is left of an erasure whose first step is taken; safe to repeat.

        Args:
            erasure_id: ``era_`` id.
            wait_s: how long to wait for the checkpoint, so as to end with the certificate.

        Returns:
            The erasure: ``done``, or still ``running`` or ``waiting-key-provider``.
        """
        erasure = self._read(erasure_id)
        if erasure.is_unfinished:
            if self.shred_step.take(erasure):
                self.tombstones.write(self._read(erasure_id))
            erasure = self._read(erasure_id)
        if erasure.state == "done" and erasure.shred_entry_id and erasure.certificate_id is None:
            self.certification.issue(erasure_id, wait_s=wait_s)
            erasure = self._read(erasure_id)
        return erasure

    def resume_all(self) -> tuple[str, ...]:
        """Go on with every erasure that a crash, a provider or a checkpoint left unfinished.

        Returns:
            The ids it went on with. One that fails again does not stop the others.
        """
        self._begin_reruns()
        with self.database.read() as connection:
            left = erasure_rows.ids_in_state(connection, *UNFINISHED)
            left += erasure_rows.ids_without_certificate(connection)
        for erasure_id in left:
            self._try(erasure_id)
        return tuple(left)

    def _second_person(self, actor: Actor, erasure_id: str) -> Agreed:
        """Ask a second person when this erasure wants one; return what to use up with it."""
        erasure = self.get(actor, erasure_id)
        if self.four_eyes is None or erasure.state not in {"planned", "approved"}:
            return Agreed()
        return self.four_eyes.erasure(actor, erasure)

    def _begin_reruns(self) -> None:
        try:
            self.reruns.begin_due()
        except OublietteError as err:
            _LOG.warning("erasure-rerun-waits", extra={"code": err.code})

    def _try(self, erasure_id: str) -> None:
        about = {"erasure_id": erasure_id}
        try:
            self.run(erasure_id)
        except OublietteError as err:
            _LOG.warning("erasure-waits", extra=about | {"code": err.code})
        except Exception:  # noqa: BLE001 - a broken one must not keep the others waiting
            _LOG.exception("erasure-broke", extra=about)

    def _verdict(
        self, connection: Connection, actor: Actor, erasure: Erasure
    ) -> RetentionError | None:
        """Return why a plan cannot be executed, None when it can; a hopeless one is refused."""
        if erasure.state == "refused":
            return ErasureConflict(erasure=erasure.id, state=erasure.state)
        changed = plan.changes(connection, erasure, self.database.now(connection))
        if changed.any:
            return PlanChanged(
                erasure=erasure.id,
                different=changed.items,
                arrived=changed.arrived,
                not_due=changed.not_due,
            )
        protected = erasure.refused_count and (
            erasure.kind == "campaign" or not erasure.planned_count
        )
        nothing = not (erasure.planned_count or erasure.kind in {"campaign", "person"})
        if protected or nothing:
            error = plan.refusal_error(connection, erasure)
            first_step.refuse(connection, self.ledger, erasure, actor=actor, outcome=error.code)
            return error
        return None

    def _read(self, erasure_id: str) -> Erasure:
        with self.database.read() as connection:
            return erasure_rows.find(connection, erasure_id)
