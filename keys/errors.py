"""Errors of the key tree and its providers."""

from __future__ import annotations

from core.errors import OublietteError


class KeysError(OublietteError):
    """Root of the family."""


class KeyUnavailable(KeysError):
    """Key material cannot be had now; nothing was destroyed, nothing was changed."""

    code = "key-unavailable"
    title = "The key material is not available at the moment; try again shortly."
    retryable = True


class FsyncFailed(KeysError):
    """A disk did not confirm a write: the attempt is given up, what it wrote is not trusted."""

    code = "fsync-failed"
    title = "A disk did not confirm a write; the work was given up and starts over later."
    retryable = True


class KeyMissing(KeysError):
    """The provider itself answers that there is no such key."""

    code = "key-missing"
    title = "The provider says that this key does not exist."


class LeafPunctured(KeysError):
    """The leaf is no longer in the current cover: its recording is gone for good."""

    code = "leaf-punctured"
    title = "The key of this recording has been destroyed."


class LeaseLost(KeysError):
    """The lease ended, or the pointer moved, while a key was in use; nothing may be emitted."""

    code = "lease-lost"
    title = "The permission to use this key material ended; try again."
    retryable = True


class PointerMoved(KeysError):
    """Another shredder changed the pointer first; start over from a fresh read."""

    code = "pointer-moved"
    title = "The key material changed meanwhile; the work starts over."
    retryable = True


class DestructionUnconfirmed(KeysError):
    """The provider did not confirm that a key is gone; the erasure stays unfinished."""

    code = "destruction-unconfirmed"
    title = "The destruction of a key is not confirmed yet; the erasure goes on by itself."
    retryable = True


class KeysLost(KeysError):
    """No blob opens under any living key: nothing may be destroyed, a person must act."""

    code = "keys-lost"
    title = "No copy of the key material opens; nothing was destroyed."


class IndexesExhausted(KeysError):
    """A campaign or a controller has handed out every index it has."""

    code = "indexes-exhausted"
    title = "No further recording fits into this campaign."
