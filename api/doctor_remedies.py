"""What to do about each of the doctor's findings, by its stable word.

A test walks the doctor's modules: a word that is warned or failed of stands here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REMEDIES: Final[Mapping[str, str]] = {
    "admins": "ask each admin whether they still are one; suspend those who are not",
    "anchor": "set ANCHOR_URI to a place that this service can write and never change",
    "blob-places": "bring the place back; recovery fills it again within five minutes",
    "canary": "start the service, or turn proxy_request_buffering off in front of it",
    "clock": "let a time service set both clocks",
    "core-dumps": "set the limit of core files to 0 for the service",
    "durability": "turn the setting on in postgresql.conf and restart PostgreSQL",
    "epoch-key": "stop the service and run oubliette restore",
    "erasures": "bring the key provider back; the erasures go on by themselves",
    "grants": "set GRANTS to required, and give grants (docs/access.md)",
    "hsm-backups": "write the rule for the HSM's backups into HSM_BACKUP_POLICY",
    "key-files": "keep local keys on a plain file system of one machine, mode 0700, or use an HSM",
    "key-indexes": "run oubliette sweep; where recordings have no key, oubliette restore",
    "key-provider": "see docs/epoch-keys.md for the provider's settings",
    "ledger": "start a server, which orders entries; see docs/ledger.md",
    "one-disk": "put one of the folders on another disk",
    "open": "put right what the sentence names; see docs/errors.md",
    "overdue": "run oubliette sweep, and see why the scheduled one did not",
    "rights": "put right what the sentence names; see docs/errors.md",
    "room": "make room on that disk",
    "set-aside": "an officer decides: oubliette set-aside list",
    "step-up": "set OIDC_STEP_UP_ACR to what your issuer says of a strong log-in (docs/access.md)",
    "swap": "run swapoff, or put swap on dm-crypt",
    "vault": "put right what the sentence names; see docs/errors.md",
    "walls": "see docs/access.md",
}
