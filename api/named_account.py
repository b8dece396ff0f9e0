"""An account as people name it: its pseudonym, or its name at the issuer, which is not kept."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.service import Service
from core import ids
from core.errors import InvalidRequest

AccountId = Annotated[
    str | None,
    Field(
        default=None,
        max_length=40,
        description="Pseudonym, `act_...`.",
        examples=["act_3v7k0q2m5w9x1c4z6b8n0s2d4f"],
    ),
]
Subject = Annotated[
    str | None,
    Field(
        default=None,
        min_length=1,
        max_length=255,
        description="Instead of the pseudonym: the `sub` of the account's tokens; never kept.",
    ),
]


def account_of(service: Service, account: str | None, subject: str | None) -> str:
    """Return the pseudonym of an account that is named in one of two ways.

    Raises:
        InvalidRequest: named in both, in neither, or not spelt like a pseudonym.
    """
    if (account is None) == (subject is None):
        raise InvalidRequest(what="account")
    if subject is not None:
        authenticator = service.authenticator
        return authenticator.actor_id(authenticator.rules.issuer, subject)
    if account is None or not ids.is_id(account, "act_"):
        raise InvalidRequest(what="account")
    return account
