"""Errors of policies, holds, erasures, certificates and restores."""

from __future__ import annotations

from core.errors import OublietteError


class RetentionError(OublietteError):
    """Root of the family."""


class HoldInForce(RetentionError):
    """A legal hold protects what was to be erased."""

    code = "hold-in-force"
    title = "A legal hold is in force over this."


class RestrictionInForce(RetentionError):
    """A restriction (GDPR Art. 18) protects what was to be erased."""

    code = "restriction-in-force"
    title = "A restriction of processing is in force over this."


class RetentionFloor(RetentionError):
    """A law obliges to keep the recording longer; facts cite the article."""

    code = "retention-floor"
    title = "A legal obligation requires this to be kept longer."


class PolicyInvalid(RetentionError):
    """The policy is incomplete, out of bounds or needs a justification."""

    code = "policy-invalid"
    title = "The retention policy is not acceptable."


class PlanChanged(RetentionError):
    """What would be erased is no longer what was planned; plan again."""

    code = "plan-changed"
    title = "The plan changed since it was made; nothing was erased."


class BrakeEngaged(RetentionError):
    """More is due at once than expected; a person must release the planned erasure."""

    code = "brake-engaged"
    title = "More recordings are due than expected; an officer must release the erasure."


class ClockDoubtful(RetentionError):
    """The database's clock is far from what was believed last: nothing ends or is dated by it."""

    code = "clock-doubtful"
    title = "The database's clock is far from the last sweep's; nothing was ended or dated by it."
    retryable = True


class ErasureNotFound(RetentionError):
    """No such erasure within the actor's controller."""

    code = "erasure-not-found"
    title = "No such erasure."


class ErasureConflict(RetentionError):
    """The erasure is not in a state that allows this."""

    code = "erasure-conflict"
    title = "The erasure cannot do this in its present state."


class CertificatePending(RetentionError):
    """The erasure is not finished, or its ledger entry is not yet under a checkpoint."""

    code = "certificate-pending"
    title = "The certificate is not ready yet."
    retryable = True


class CertificateInvalid(RetentionError):
    """The certificate does not verify."""

    code = "certificate-invalid"
    title = "The certificate does not verify."


class HoldNotFound(RetentionError):
    """No such hold within the actor's controller."""

    code = "hold-not-found"
    title = "No such hold."


class UploadsInProgress(RetentionError):
    """A campaign cannot be shredded while uploads into it are open."""

    code = "uploads-in-progress"
    title = "Uploads into this campaign are still open; close it and try again."
    retryable = True


class RestoreNeeded(RetentionError):
    """The database is an older copy than keys or ledger; serving it could revive the erased."""

    code = "restore-needed"
    title = "The database is an older copy: run the restore before serving."


class RestoreRefused(RetentionError):
    """The restore cannot go on safely; nothing was changed."""

    code = "restore-refused"
    title = "The restore was refused: it could bring erased recordings back or lose living ones."


class SetAsideNotFound(RetentionError):
    """No object of this id was set aside for the actor's controller."""

    code = "set-aside-not-found"
    title = "No such object was set aside."


class SetAsideConflict(RetentionError):
    """The object was decided on already, or cannot be released: facts say why."""

    code = "set-aside-conflict"
    title = "This cannot be done with the object that was set aside."


class BackupInvalid(RetentionError):
    """A backup is not whole, not this vault's, or was changed: facts say which part."""

    code = "backup-invalid"
    title = "The backup does not hold what its manifest says."


class BackupRefused(RetentionError):
    """A backup may not be written there: keys, or what opens with them, lie there too."""

    code = "backup-refused"
    title = "The backup was refused: key material would lie in it."
