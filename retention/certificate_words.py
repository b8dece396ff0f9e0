"""The plain words of a certificate, in French and in English: a function of its facts. Pure.

Each sentence says what was done, by whom, when, and what was not done. A code without words here
is printed as it is: a certificate never hides a limit that it does not know how to explain.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from retention import certificate_limits
from vault.ledger.anchor import NO_ANCHOR, PENDING

_IDS_SHOWN: Final = 20


@dataclass(frozen=True)
class _Language:
    """Templates of one language; each block ends without a newline."""

    text: str
    kinds: Mapping[str, str]
    grounds: Mapping[str, str]
    limits: Mapping[str, str]
    campaign: str
    whole_list: str
    uploads: str
    external_until: str
    external_none: str
    anchor_none: str
    anchor_pending: str


_FRENCH: Final = _Language(
    text="""\
ATTESTATION D'EFFACEMENT

Effacement {erasure} : {kind}, {recordings} enregistrement(s).
Responsable de traitement : {controller}.{campaign}
Fondement : {ground}.
Enregistrements :
{listed}
Écoute impossible depuis le {inaccessible}.
Clés détruites le {destroyed}, destruction
confirmée par le fournisseur de clés : {providers}.
Clés d'époque détruites : {keys}
(époque {epoch_before} avant, {epoch_after} après).
Méthode : effacement cryptographique. Chaque enregistrement est scellé dès son premier octet ; la
clé qui l'ouvrait ne peut plus être calculée, y compris à partir d'anciennes copies de la base, des
objets scellés ou des sauvegardes.
Limites :
{limits}- Une machine suspendue pendant une écoute a pu émettre au plus le fragment qu'elle tenait.
- Les copies qu'une personne aurait faites en écoutant ne sont pas concernées.
- Une copie complète de la machine antérieure à la destruction, clés comprises, ouvrirait encore ce
  qu'elle contenait.{uploads}
Ce qui subsiste dans les anciennes copies : les colonnes en clair (identifiants techniques, horaires
à la minute, durée, taille, codec, sens de l'appel), les feuilles du registre et l'objet scellé,
illisible, jusqu'à sa suppression.
{external}
Registre : entrée {entry}, preuve d'inclusion jointe.
Ancrage externe : {anchor}.
Vérification : hors ligne, par « oubliette verify-certificate », avec la seule clé publique que le
responsable de traitement a reçue à la création du coffre. Un caractère changé la fait échouer ; les
faits et la preuve suivent les deux textes.""",
    kinds=MappingProxyType(
        {
            "recording": "un enregistrement",
            "list": "une liste d'enregistrements",
            "person": "les enregistrements d'une personne",
            "campaign": "une campagne entière",
            "expiry": "des enregistrements arrivés à échéance",
        }
    ),
    grounds=MappingProxyType(
        {
            "retention-ended": "fin de la durée de conservation (RGPD art. 5(1)(e))",
            "no-longer-needed": "données qui ne sont plus nécessaires (RGPD art. 17(1)(a))",
            "consent-withdrawn": "retrait du consentement (RGPD art. 17(1)(b))",
            "objection": "opposition (RGPD art. 17(1)(c))",
            "unlawful-processing": "traitement illicite (RGPD art. 17(1)(d))",
            "legal-obligation": "obligation légale (RGPD art. 17(1)(e))",
            "end-of-mission": "fin de la mission du sous-traitant (RGPD art. 28(3)(g))",
        }
    ),
    limits=certificate_limits.FRENCH,
    campaign=" Campagne : {campaign}.",
    whole_list="(la liste complète est dans la dernière ligne)",
    uploads="""
- {uploads} envoi(s) étaient en cours : un second effacement les examine à leur fin.""",
    external_until="""\
Jusqu'au {day} inclus, qui détient une ancienne copie de la base peut y tester un identifiant
externe deviné.""",
    external_none="Aucun identifiant externe ne peut être testé dans une ancienne copie.",
    anchor_none="""\
aucun (anchor: none) ; la remise en place d'une copie de la machine entière
ne se verrait pas""",
    anchor_pending="""\
{anchor}, en attente (anchor: pending) : aucune copie du registre n'y
couvrait encore cette entrée à la signature ; toute copie ultérieure la couvre""",
)

_ENGLISH: Final = _Language(
    text="""\
CERTIFICATE OF ERASURE

Erasure {erasure}: {kind}, {recordings} recording(s).
Controller: {controller}.{campaign}
Ground: {ground}.
Recordings:
{listed}
Could not be heard from {inaccessible} on.
Keys destroyed on {destroyed}, destruction confirmed
by the key provider: {providers}.
Epoch keys destroyed: {keys}
(epoch {epoch_before} before, {epoch_after} after).
Method: cryptographic erasure. Each recording is sealed from its first byte; the key that opened it
can no longer be computed, not from old copies of the database, of the sealed objects or of backups
either.
Limits:
{limits}- A machine that was paused during a listen may have sent at most the one piece it held.
- Copies that a person made while listening are not covered.
- A copy of the whole machine from before the destruction, keys included, would still open what it
  held.{uploads}
What remains in old copies: the clear columns (technical ids, times to the minute, duration, size,
codec, direction of the call), the ledger's leaves and the sealed object, unreadable, until it is
deleted.
{external}
Ledger: entry {entry}, inclusion proof attached.
Outside anchor: {anchor}.
To verify: offline, with "oubliette verify-certificate" and nothing but the public key that the
controller was given when the vault was made. One changed character makes it fail; facts and proof
follow the two texts.""",
    kinds=MappingProxyType(
        {
            "recording": "one recording",
            "list": "a list of recordings",
            "person": "the recordings of a person",
            "campaign": "a whole campaign",
            "expiry": "recordings past their deadline",
        }
    ),
    grounds=MappingProxyType(
        {
            "retention-ended": "end of the retention period (GDPR Art. 5(1)(e))",
            "no-longer-needed": "data no longer needed (GDPR Art. 17(1)(a))",
            "consent-withdrawn": "consent withdrawn (GDPR Art. 17(1)(b))",
            "objection": "objection (GDPR Art. 17(1)(c))",
            "unlawful-processing": "unlawful processing (GDPR Art. 17(1)(d))",
            "legal-obligation": "legal obligation (GDPR Art. 17(1)(e))",
            "end-of-mission": "end of the processor's mission (GDPR Art. 28(3)(g))",
        }
    ),
    limits=certificate_limits.ENGLISH,
    campaign=" Campaign: {campaign}.",
    whole_list="(the whole list is in the last line)",
    uploads="""
- {uploads} upload(s) were under way: a second erasure looks at them when they end.""",
    external_until="""\
Until {day} included, whoever holds an old copy of the database can test a guessed external id
against it.""",
    external_none="No external id can be tested in an old copy.",
    anchor_none="""\
none (anchor: none); a copy of the whole machine put back would not be noticed""",
    anchor_pending="""\
{anchor}, awaited (anchor: pending): no copy of the ledger there covered this
entry when this was signed; every later copy does""",
)


def french(facts: Mapping[str, Any]) -> str:
    """Return the French words, without a last newline."""
    return _said(_FRENCH, facts)


def english(facts: Mapping[str, Any]) -> str:
    """Return the English words, without a last newline."""
    return _said(_ENGLISH, facts)


def _said(words: _Language, facts: Mapping[str, Any]) -> str:
    campaign, day, uploads = facts["campaign"], facts["external_ids_until"], facts["uploads_open"]
    return words.text.format(
        erasure=facts["erasure"],
        kind=words.kinds[facts["kind"]],
        recordings=facts["recordings"],
        controller=facts["controller"],
        campaign="" if campaign is None else words.campaign.format(campaign=campaign),
        ground=words.grounds[facts["legal_ground"]],
        listed=_listed(words, facts),
        inaccessible=_when(facts["inaccessible_at"]),
        destroyed=_when(facts["destroyed_at"]),
        providers=", ".join(facts["provider_uris"]),
        keys=", ".join(facts["destroyed_key_ids"]),
        epoch_before=facts["epoch_before"],
        epoch_after=facts["epoch_after"],
        limits="".join(
            f"- {certificate_limits.said(words.limits, code, facts)}\n" for code in facts["limits"]
        ),
        uploads=words.uploads.format(uploads=uploads) if uploads else "",
        external=words.external_none if day is None else words.external_until.format(day=day),
        entry=facts["entry"]["id"],
        anchor=_anchor(words, facts["anchor"]),
    )


def _anchor(words: _Language, anchor: str) -> str:
    if anchor == NO_ANCHOR:
        return words.anchor_none
    if anchor.startswith(PENDING):
        return words.anchor_pending.format(anchor=anchor.removeprefix(PENDING))
    return anchor


def _listed(words: _Language, facts: Mapping[str, Any]) -> str:
    shown = [line.partition(" ")[0] for line in (facts["list"] or ())[:_IDS_SHOWN]]
    if facts["recordings"] > len(shown):
        shown.append(words.whole_list)
    return "\n".join(f"- {one}" for one in shown)


def _when(instant: str) -> str:
    return f"{instant[:10]} {instant[11:23]} UTC"
