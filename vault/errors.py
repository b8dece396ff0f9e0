"""Errors of recordings, campaigns, listens and the ledger."""

from __future__ import annotations

from core.errors import OublietteError


class VaultError(OublietteError):
    """Root of the family."""


class StoreUnavailable(VaultError):
    """The object store did not answer, answered short, or refused; nothing was acknowledged."""

    code = "store-unavailable"
    title = "The object store is not available at the moment; try again shortly."
    retryable = True


class ObjectExists(VaultError):
    """An object of this key is already there; it was not touched."""

    code = "object-exists"
    title = "An object of this name exists already and was left as it is."


class ObjectMissing(VaultError):
    """No object of this key."""

    code = "object-missing"
    title = "The stored object is missing."


class LedgerUnavailable(VaultError):
    """The ledger cannot take or order entries: nothing may be heard, exported or erased."""

    code = "ledger-unavailable"
    title = "The access ledger is not available, so the request was refused."
    retryable = True


class LedgerCorrupt(VaultError):
    """The ledger does not verify; names the first bad index."""

    code = "ledger-corrupt"
    title = "The access ledger failed its verification."


class CampaignNotFound(VaultError):
    """No such campaign within the actor's controller and campaigns."""

    code = "campaign-not-found"
    title = "No such campaign."


class CampaignNotOpen(VaultError):
    """The campaign is a draft, closed or shredded: it takes no deposits."""

    code = "campaign-not-open"
    title = "The campaign is not open for deposits."


class CampaignConflict(VaultError):
    """The campaign cannot change as asked: slug taken, policy missing, or wrong state."""

    code = "campaign-conflict"
    title = "The campaign cannot change in this way now."


class CountryNotAllowed(VaultError):
    """The store's country is not among those of the campaign."""

    code = "country-not-allowed"
    title = "The campaign does not allow recordings to be kept in this store's country."


class DuplicateDeposit(VaultError):
    """The same external id came before with another body."""

    code = "duplicate-deposit"
    title = "A different recording was already deposited under this id."


class DepositInProgress(VaultError):
    """The same external id is being uploaded now."""

    code = "deposit-in-progress"
    title = "A recording of this id is being uploaded at the moment."
    retryable = True


class DepositLost(VaultError):
    """The attempt ended before its upload did (abandoned, or its key punctured)."""

    code = "deposit-lost"
    title = "The upload ended before it was complete; send the recording again."
    retryable = True


class UnsupportedAudio(VaultError):
    """The body is not a call recording."""

    code = "unsupported-audio"
    title = "The body is not audio that the vault accepts."


class RecordingTooLarge(VaultError):
    """The body is above the limit; nothing was kept."""

    code = "recording-too-large"
    title = "The recording is larger than the vault accepts."


class UploadTooSlow(VaultError):
    """The upload fell below the slowest rate allowed; nothing was kept."""

    code = "upload-too-slow"
    title = "The upload was too slow and was ended."


class DigestMismatch(VaultError):
    """The body is not what the sender said it would be (length or digest)."""

    code = "digest-mismatch"
    title = "The body does not match the length or digest declared for it."


class MetadataInvalid(VaultError):
    """A metadata field is unknown, too long or holds what it must not."""

    code = "metadata-invalid"
    title = "The metadata is not acceptable."


class MetadataFirst(VaultError):
    """The multipart parts are not metadata, then audio."""

    code = "metadata-first"
    title = "The metadata part must come first, then the audio part."


class StartedInFuture(VaultError):
    """The call starts more than five minutes from now."""

    code = "started-in-future"
    title = "The call is said to start in the future."


class DeadlinePassed(VaultError):
    """The call is already past its campaign's retention."""

    code = "deadline-passed"
    title = "The recording is already past its retention and was not kept."


class RecordingNotFound(VaultError):
    """No such recording within the actor's controller and campaigns."""

    code = "recording-not-found"
    title = "No such recording."


class RecordingErased(VaultError):
    """The recording is being erased or is erased; facts say when, and where its certificate is."""

    code = "recording-erased"
    title = "The recording has been erased."


class ListenDenied(VaultError):
    """Role, purpose, window or a restriction does not allow this."""

    code = "listen-denied"
    title = "You are not allowed to do this with the recording."


class ReasonRequired(VaultError):
    """No reason, or one too short to mean anything."""

    code = "reason-required"
    title = "A reason of 10 to 500 characters and at least two words is required."


class PurposeUnknown(VaultError):
    """The purpose is not one of the closed list."""

    code = "purpose-unknown"
    title = "The purpose is not one of the known ones."


class ListenNotFound(VaultError):
    """No such listen for this actor."""

    code = "listen-not-found"
    title = "No such listen."


class TicketEnded(VaultError):
    """The ticket is used up, expired, revoked or is not the one given for this listen."""

    code = "ticket-ended"
    title = "This listen has ended; ask again with a reason."


class RangeNotSatisfiable(VaultError):
    """The range lies outside the recording; facts carry its length."""

    code = "range-not-satisfiable"
    title = "The requested range lies outside the recording."


class ExportNotFound(VaultError):
    """No such export within the actor's scope."""

    code = "export-not-found"
    title = "No such export."


class ExportConflict(VaultError):
    """The export cannot be made or begun like this; the fact ``why`` says what is in the way."""

    code = "export-conflict"
    title = "This export is not possible, or not any more."


class RecipientInvalid(VaultError):
    """The receiver is not an age public key."""

    code = "recipient-invalid"
    title = "The receiver must be an age public key (age1...)."


class SearchNotFound(VaultError):
    """No such search for this actor."""

    code = "search-not-found"
    title = "No such search."


class DepositKeyNotFound(VaultError):
    """No such deposit key in this campaign."""

    code = "deposit-key-not-found"
    title = "No such deposit key."


class ApprovalRequired(VaultError):
    """A second person must approve this exact request first; facts say where."""

    code = "approval-required"
    title = "A second person must approve this first."


class ApprovalNotFound(VaultError):
    """No such approval in the actor's scope."""

    code = "approval-not-found"
    title = "No such approval."


class ApprovalConflict(VaultError):
    """The approval cannot be decided by this person, or not any more; a fact says why."""

    code = "approval-conflict"
    title = "The approval cannot be decided in this way."


class AccountSuspended(VaultError):
    """The account is suspended or frozen: it may do nothing."""

    code = "account-suspended"
    title = "This account is suspended."


class AccountNotFound(VaultError):
    """No account of this id was seen in the actor's controller."""

    code = "account-not-found"
    title = "No such account."


class GrantNotFound(VaultError):
    """No such grant in the actor's scope."""

    code = "grant-not-found"
    title = "No such grant."


class GrantConflict(VaultError):
    """The grant cannot be given, confirmed or ended in this way; a fact says why."""

    code = "grant-conflict"
    title = "The grant cannot change in this way."


class FreezeNotFound(VaultError):
    """No such freeze in the actor's controller."""

    code = "freeze-not-found"
    title = "No such freeze."


class ReviewNotFound(VaultError):
    """No such review in the actor's scope."""

    code = "review-not-found"
    title = "No such review."


class ReviewConflict(VaultError):
    """The reason was judged already, or is the reviewer's own."""

    code = "review-conflict"
    title = "The review cannot be decided in this way."
