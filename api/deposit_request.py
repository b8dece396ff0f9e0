"""Who sends a recording, and what the request says of it before its audio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from starlette.requests import Request

from api.auth import Authenticator
from api.errors import RoleRequired, Unauthenticated
from api.jwk import decode_base64url
from api.limits import LIMITS
from api.multipart import AudioBegins, file_name
from api.ports import SecretAuthenticator
from core.errors import InvalidRequest
from core.scope import narrow
from vault.access import Actor
from vault.account import Accounts
from vault.deposit import DepositRequest
from vault.deposit_secret import URL_PREFIX
from vault.errors import AccountSuspended, DepositKeyNotFound, MetadataInvalid, UnsupportedAudio

METADATA_HEADER: Final = "oubliette-metadata"
_MEDIA_TYPE_CHARACTERS_MAX: Final = 200
_RECORDINGS: Final = b"/recordings/"


@dataclass(frozen=True)
class Sender:
    """Recognises who sends: by a token or deposit key in the header, or by an address's token."""

    request: Request
    authenticator: Authenticator
    secrets: SecretAuthenticator
    ledger_controller_id: str
    accounts: Accounts

    def authenticate(self, external_id: str | None = None) -> Actor:
        """Return the sender; may wait for the database.

        Raises:
            Unauthenticated, IssuerUnavailable: nobody known. RoleRequired: known, not for deposits.
            AccountSuspended: the machine's account is suspended or frozen.
        """
        token = self.request.query_params.get("token")
        if token is None:
            actor = self.authenticator.authenticate(self.request.headers)
        else:
            actor = self._holder(token, external_id)
        narrow(actor.controller_id, self.ledger_controller_id)
        self.request.state.actor_id = actor.id
        stopped = self.accounts.arrive(actor)
        if stopped is not None:
            raise AccountSuspended(why=stopped)
        if "intake" not in actor.roles:
            raise RoleRequired(roles=["intake"])
        return actor

    def _holder(self, token: str, external_id: str | None) -> Actor:
        # a deposit key must not stand in an address, where proxies log it
        if external_id is None or not token.startswith(URL_PREFIX):
            raise Unauthenticated(reason="secret-unknown")
        try:
            return self.secrets.authenticate(token, external_id)
        except DepositKeyNotFound as err:
            raise Unauthenticated(reason="secret-unknown") from err


def raw_request(request: Request) -> DepositRequest:
    """Read what a raw body's request line and headers say.

    Raises:
        InvalidRequest: the address is not UTF-8. MetadataInvalid: the metadata field is malformed.
        UnsupportedAudio: the body is said to be compressed.
    """
    headers = request.headers
    _check_encoding(request)
    length = headers.get("content-length")
    named = headers.get("content-disposition")
    return DepositRequest(
        campaign_ref=request.path_params["campaign"],
        external_id=_external_id(request),
        metadata=_metadata(headers.get(METADATA_HEADER)),
        file_name=None if named is None else file_name(named),
        media_type=_media_type(headers.get("content-type")),
        declared_bytes=None if length is None else int(length),
    )


def form_request(request: Request, begins: AudioBegins) -> DepositRequest:
    """Read what a form says before its audio.

    Raises:
        UnsupportedAudio: the body is said to be compressed.
    """
    _check_encoding(request)
    return DepositRequest(
        campaign_ref=request.path_params["campaign"],
        metadata=begins.metadata,
        file_name=begins.file_name,
        media_type=_media_type(begins.media_type),
    )


def _check_encoding(request: Request) -> None:
    """Refuse compressed bodies: what is kept is what was sent, and bombs stay outside."""
    encodings = request.headers.getlist("content-encoding")
    if any(one.strip().lower() not in {"", "identity"} for one in encodings):
        raise UnsupportedAudio(reason="content-encoding")


def _external_id(request: Request) -> str:
    """Return the id from the address as it was sent: the server's own decoding is lenient."""
    sent: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    _, found, segment = sent.partition(_RECORDINGS)
    try:
        external_id = unquote_to_bytes(segment).decode("utf-8")
    except UnicodeDecodeError as err:
        raise InvalidRequest(what="external-id") from err
    if not found or external_id != request.path_params["external_id"]:
        raise InvalidRequest(what="external-id")
    return external_id


def _metadata(field: str | None) -> bytes:
    if not field:
        return b""
    if len(field) > LIMITS.metadata_header_bytes:
        raise MetadataInvalid(what="too-large", max_bytes=LIMITS.metadata_header_bytes)
    try:
        return decode_base64url(field.rstrip("="))
    except ValueError as err:
        raise MetadataInvalid(what="not-base64url") from err


def _media_type(field: str | None) -> str | None:
    return None if field is None else field[:_MEDIA_TYPE_CHARACTERS_MAX]
