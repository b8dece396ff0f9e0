"""What the console says, in English and in French; one key, both languages (a test compares)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

Language = Literal["en", "fr"]

_ENGLISH: Final = {
    "title": "Recordings",
    "log_in_title": "Log in",
    "log_in_text": "You are asked who you are at your organisation's identity provider.",
    "log_in": "Log in",
    "log_out": "Log out",
    "no_provider": "No identity provider is set up. On the vault's machine, run "
    "'oubliette token --browser --role ROLE' and open the link that it prints.",
    "enter_text": "This link logs you in once. Nobody should have sent it to you: go on only "
    "if you made it yourself.",
    "enter": "Go on",
    "failed_title": "You are not logged in",
    "failed_text": "The log-in did not come to its end. Nothing has happened; begin it again.",
    "failed_code": "Reason",
    "again": "Begin again",
    "going_on": "Going on",
    "who": "Logged in, pseudonym",
    "campaign": "Campaign (all)",
    "show": "Show",
    "more": "More",
    "col_started": "Call",
    "col_campaign": "Campaign",
    "col_agent": "Agent",
    "col_contact": "Contact",
    "col_duration": "Length",
    "listen": "Listen",
    "listen_title": "Listen to a recording",
    "purpose": "Purpose",
    "reason": "Reason",
    "reason_help": "10 to 500 characters, at least two words. It is written into the ledger "
    "before you hear anything.",
    "ask": "Write it down and listen",
    "cancel": "Cancel",
    "stop": "End this listen",
    "playing": "You are listening. The reason is in the ledger under",
    "ended": "This listen has ended: its time is over, or your right was taken away. "
    "To hear the recording again, give a reason again.",
    "stopped": "You have ended this listen.",
    "empty": "No recordings.",
    "not_playable": "A browser cannot play this format; use the command line.",
    "step_up": "For this you must log in again.",
    "approval": "A second person must agree first; once they have, ask again in the same words. "
    "Approval",
    "refused": "Refused",
    "unreachable": "The vault does not answer; try again shortly.",
    "quality-control": "Quality control",
    "training": "Training",
    "complaint": "Complaint",
    "contract-proof": "Proof of a contract",
    "legal-claim": "Legal claim",
    "security-incident": "Security incident",
    "data-subject-request": "Request of the person recorded",
    "technical-check": "Technical check",
}
_FRENCH: Final = {
    "title": "Enregistrements",
    "log_in_title": "Connexion",
    "log_in_text": "Le fournisseur d'identité de votre organisation vous demande qui vous êtes.",
    "log_in": "Se connecter",
    "log_out": "Se déconnecter",
    "no_provider": "Aucun fournisseur d'identité n'est configuré. Sur la machine du coffre, "
    "lancez 'oubliette token --browser --role ROLE' et ouvrez le lien affiché.",
    "enter_text": "Ce lien vous connecte une seule fois. Personne n'aurait dû vous l'envoyer : "
    "continuez seulement si vous l'avez créé vous-même.",
    "enter": "Continuer",
    "failed_title": "Vous n'êtes pas connecté",
    "failed_text": "La connexion n'est pas allée à son terme. Rien ne s'est passé ; recommencez.",
    "failed_code": "Motif",
    "again": "Recommencer",
    "going_on": "Suite",
    "who": "Connecté, pseudonyme",
    "campaign": "Campagne (toutes)",
    "show": "Afficher",
    "more": "Suite",
    "col_started": "Appel",
    "col_campaign": "Campagne",
    "col_agent": "Agent",
    "col_contact": "Contact",
    "col_duration": "Durée",
    "listen": "Écouter",
    "listen_title": "Écouter un enregistrement",
    "purpose": "Finalité",
    "reason": "Motif",
    "reason_help": "10 à 500 caractères, au moins deux mots. Il est inscrit au registre avant "
    "que vous n'entendiez quoi que ce soit.",
    "ask": "Inscrire et écouter",
    "cancel": "Annuler",
    "stop": "Terminer cette écoute",
    "playing": "Vous écoutez. Le motif est au registre sous",
    "ended": "Cette écoute est terminée : son temps est écoulé, ou votre droit a été retiré. "
    "Pour réécouter l'enregistrement, donnez de nouveau un motif.",
    "stopped": "Vous avez terminé cette écoute.",
    "empty": "Aucun enregistrement.",
    "not_playable": "Un navigateur ne lit pas ce format ; utilisez la ligne de commande.",
    "step_up": "Pour cela, vous devez vous connecter de nouveau.",
    "approval": "Une seconde personne doit d'abord être d'accord ; ensuite, redemandez dans les "
    "mêmes termes. Approbation",
    "refused": "Refusé",
    "unreachable": "Le coffre ne répond pas ; réessayez dans un instant.",
    "quality-control": "Contrôle qualité",
    "training": "Formation",
    "complaint": "Réclamation",
    "contract-proof": "Preuve d'un contrat",
    "legal-claim": "Action en justice",
    "security-incident": "Incident de sécurité",
    "data-subject-request": "Demande de la personne enregistrée",
    "technical-check": "Vérification technique",
}
WORDS: Final[Mapping[Language, Mapping[str, str]]] = {"en": _ENGLISH, "fr": _FRENCH}
# what the page's own script says
SPOKEN: Final = (
    "listen",
    "playing",
    "ended",
    "stopped",
    "empty",
    "not_playable",
    "step_up",
    "approval",
    "refused",
    "unreachable",
)


def language_of(asked: str, accepted: str) -> Language:
    """Return the language to answer in.

    Args:
        asked: of the address (``lang=``), or "".
        accepted: the ``Accept-Language`` field, or ""; the first of ours in it counts.
    """
    for one in (asked, *re.split(r"[,;\s]+", accepted[:200])):
        primary = one[:2].lower()
        if primary == "fr":
            return "fr"
        if primary == "en":
            return "en"
    return "en"
