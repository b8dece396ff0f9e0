"""Every label that keeps one use of a key apart from another, in one list.

A label stands in front of the ids in HKDF-Expand, of the bit in the tree's HMAC, or of what is
hashed into a commitment. Two uses never share one, and none is the beginning of another, so that
label and what follows cannot run into each other.
A changed meaning gets a new version, never an edited label: old objects are read with the old one.
"""

from __future__ import annotations

from typing import Final

TREE: Final = b"oubliette/tree/v1"
"""A child of a tree node: HMAC-SHA256(seed, TREE | bit)."""

WRAP: Final = b"oubliette/wrap/v1"
"""The key that wraps a recording's DEK."""

METADATA: Final = b"oubliette/metadata/v1"
"""The key that seals a recording's metadata."""

NARRATIVE: Final = b"oubliette/narrative/v1"
"""The key that seals the free text of a ledger entry about a person, in the controller's tree."""

LEDGER_TEXT: Final = b"oubliette/ledger-text/v1"
"""The key that seals a ledger entry, in the ledger's own tree."""

EXTERNAL_ID: Final = b"oubliette/external-id/v1"
"""The key of the HMAC over an external id, under a reserved leaf."""

PERSON_RERUN: Final = b"oubliette/person-rerun/v1"
"""The key that seals a number until an erasure by person has run once more."""

BLOB_KEY: Final = b"oubliette/blob-key/v1"
"""Begins the context under which a provider wraps a blob key."""

CURSOR: Final = b"oubliette/cursor/v1"
"""The key of the MAC over a page cursor, from the process's signing folder."""

ACTOR: Final = b"oubliette/actor/v1"
"""Begins the message whose HMAC names an actor, under the pseudonym key."""

SHARED_MAC: Final = b"oubliette/shared-mac/v1"
"""Begins the message whose HMAC is a key that every replica shares, under the pseudonym key."""

UPLOAD_URL: Final = b"oubliette/upload-url/v1"
"""Begins the message of the HMAC by which an upload address's token stands for its external id."""

LEDGER_ENTRY: Final = b"oubliette/ledger-entry/v1"
"""Begins what a ledger leaf's commitment to its event hashes."""

NARRATIVE_TEXT: Final = b"oubliette/narrative-text/v1"
"""Begins what a ledger entry's commitment to its free text hashes."""

ACTOR_NAME: Final = b"oubliette/actor-name/v1"
"""Begins what a ledger entry's commitment to its actor's name hashes."""

SEQUENCER_LOCK: Final = b"oubliette/sequencer-lock/v1"
"""Begins what is hashed into the number of the sequencer's database lock."""

BROWSER_SESSION: Final = b"oubliette/browser-session/v1"
"""The key that seals what a browser session knows, from the session's own secret."""

LOG_IN: Final = b"oubliette/log-in/v1"
"""Begins what is derived for one log-in (state, nonce, verifier) from the browser's own secret."""

REQUEST_TOKEN: Final = b"oubliette/request-token/v1"
"""Begins the message whose HMAC shows that a request comes from our own page."""

ALL: Final = (
    TREE,
    WRAP,
    METADATA,
    NARRATIVE,
    LEDGER_TEXT,
    EXTERNAL_ID,
    PERSON_RERUN,
    BLOB_KEY,
    CURSOR,
    ACTOR,
    SHARED_MAC,
    UPLOAD_URL,
    LEDGER_ENTRY,
    NARRATIVE_TEXT,
    ACTOR_NAME,
    SEQUENCER_LOCK,
    BROWSER_SESSION,
    LOG_IN,
    REQUEST_TOKEN,
)
