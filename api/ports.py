"""What the service's outside asks of others: documents of an issuer, its keys, callers' scopes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from api.jwk import Jwk
from vault.access import Actor


class DocumentFetcher(Protocol):
    """Fetches one small document from an issuer, bounded in size and time."""

    def get(self, uri: str) -> bytes:
        """Return the body of a 200 answer.

        Raises:
            OSError: no answer in time, a redirect, another status, or too long.
        """
        ...


class FormPoster(Protocol):
    """Sends one form to an issuer, bounded in size and time."""

    def post(
        self, uri: str, fields: Mapping[str, str], basic: tuple[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Return status and body of the answer.

        Raises:
            OSError: no answer in time, or too long.
        """
        ...


class TokenKeys(Protocol):
    """The public keys a token may be signed with."""

    def find(self, kid: str) -> Jwk:
        """Return the one key of this ``kid``.

        Raises:
            Unauthenticated: there is none, or more than one.
            IssuerUnavailable: the keys cannot be had.
        """
        ...


class SecretAuthenticator(Protocol):
    """Knows deposit keys and upload addresses by their secret."""

    def authenticate(self, secret: str, external_id: str | None = None) -> Actor:
        """Return who holds the secret.

        Raises:
            DepositKeyNotFound: nobody, or it was revoked or has expired.
        """
        ...


class ControllerDirectory(Protocol):
    """Knows controllers by slug."""

    def find(self, slug: str) -> str | None:
        """Return the ``ctl_`` id of an active controller, or None."""
        ...
