"""What a key provider cannot promise, in plain words, from the codes in a certificate's JSON. Pure.

A code without words here is printed as it is: a certificate never hides a limit that it does not
know how to explain. ``kms-deletion-<days>-days`` becomes a second date: the key is disabled when it
is confirmed destroyed, and deleted that many days later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

FRENCH: Final[Mapping[str, str]] = {
    "best-effort-media": """\
Le fichier de clé a été écrasé puis supprimé ; un support SSD, un système de fichiers à
  copie sur écriture ou un instantané du disque peut en garder une trace.""",
    "hsm-backups": """\
La clé a été détruite dans chaque module matériel (HSM) ; les sauvegardes du HSM, faites par ses
  propres outils, peuvent la contenir encore. Politique déclarée pour ces sauvegardes : {policy}""",
    "kms-deletion": """\
Deux dates : la clé KMS est inutilisable depuis le {destroyed}, et sa suppression
  définitive est fixée au {deleted}, à un jour près. Entre les deux, un administrateur du
  compte AWS pourrait annuler la suppression.""",
    "raft-snapshots": """\
La clé a été supprimée du moteur transit ; un instantané (raft) ou une sauvegarde de son stockage
  fait auparavant la contient jusqu'à ce qu'il soit lui-même effacé.""",
}
ENGLISH: Final[Mapping[str, str]] = {
    "best-effort-media": """\
The key file was overwritten and removed; an SSD, a copy-on-write file system or a snapshot of
  the disk may keep a trace of it.""",
    "hsm-backups": """\
The key was destroyed in every hardware module (HSM); backups that the HSM's own tools made may
  still hold it. Policy declared for those backups: {policy}""",
    "kms-deletion": """\
Two dates: the KMS key cannot be used since {destroyed}, and its final deletion is set for
  {deleted}, give or take a day. In between, an administrator of the AWS account could cancel
  the deletion.""",
    "raft-snapshots": """\
The key was deleted from the transit engine; a (raft) snapshot or a backup of its storage that was
  made before holds it until that is deleted itself.""",
}
_NO_POLICY: Final = {FRENCH["hsm-backups"]: "aucune.", ENGLISH["hsm-backups"]: "none."}
_WINDOW: Final = re.compile(r"kms-deletion-([0-9]{1,3})-days")


def said(words: Mapping[str, str], code: str, facts: Mapping[str, Any]) -> str:
    """Return the sentence of one limit, in the language of ``words``."""
    window = _WINDOW.fullmatch(code)
    text = words.get("kms-deletion" if window else code)
    if text is None:
        return code
    return text.format(
        policy=facts.get("hsm_backup_policy") or _NO_POLICY.get(text, ""),
        destroyed=_minute(facts["destroyed_at"]),
        deleted=_deleted_on(facts["destroyed_at"], window) or "",
    )


def keys_deleted_on(limits: tuple[str, ...], destroyed_at: str) -> str | None:
    """Return the day on which the last destroyed key is deleted for good, where that waits."""
    days = [_deleted_on(destroyed_at, _WINDOW.fullmatch(code)) for code in limits]
    return max((day for day in days if day), default=None)


def _deleted_on(destroyed_at: str, window: re.Match[str] | None) -> str | None:
    if window is None:
        return None
    day = datetime.fromisoformat(destroyed_at) + timedelta(days=int(window[1]))
    return day.date().isoformat()


def _minute(instant: str) -> str:
    return f"{instant[:10]} {instant[11:16]} UTC"
