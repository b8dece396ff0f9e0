"""The settings: ``OUBLIETTE_*`` variables, read once into one frozen value.

Every setting has a row in ``RULES``: its name, how its text is read, and the text that stands for
it when it is absent. An unknown ``OUBLIETTE_*`` name is refused, because a misspelt retention or
brake that silently does nothing is worse than a service that does not start. What Kubernetes puts
into each pod for a service of that name (``_SERVICE_HOST``, ``_PORT=tcp://...``) is ignored.

Production mode refuses the parts that are embedded for one machine's sake: the built-in issuer,
local keys unless they are allowed by name, fewer than three places for key blobs, and plain http.

Settings may hold credentials (a database URI): ``repr`` and ``shown`` leave them out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from api.errors import SettingsInvalid
from api.settings_text import (
    Rule,
    absolute_folder,
    algorithms,
    base_url,
    choice,
    country,
    flag,
    public_base_url,
    scopes,
    share,
    size_bytes,
    text,
    uri,
    uris,
    whole,
    without_credentials,
    words,
    words_of_a_policy,
)

PREFIX: Final = "OUBLIETTE_"
CLIENT_ONLY: Final = frozenset({"OUBLIETTE_URL", "OUBLIETTE_TOKEN"})
EMBEDDED_ISSUER: Final = "urn:oubliette:embedded-issuer"
_PRODUCTION_PLACES: Final = 3
_KUBERNETES: Final = re.compile(
    r"OUBLIETTE_(?:[A-Z0-9_]+_)?"
    r"(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)?)"
)


@dataclass(frozen=True)
class Settings:
    """Everything the service can be told from outside; ``docs/configuration.md`` explains each."""

    mode: Literal["embedded", "production"]
    data_dir: Path
    database_uri: str = field(repr=False)
    store_uri: str = field(repr=False)
    store_country: str
    keys_uris: tuple[str, ...] = field(repr=False)
    key_provider_timeout_s: int
    hsm_backup_policy: str
    blob_places: tuple[str, ...] = field(repr=False)
    signing_key_uri: str = field(repr=False)
    ledger_uri: str = field(repr=False)
    public_url: str
    trusted_proxies: tuple[str, ...]
    listen_host: str
    listen_port: int
    drain_grace_s: int
    oidc_issuer: str
    oidc_audience: str
    oidc_algorithms: tuple[str, ...]
    oidc_claim_roles: str
    oidc_claim_controller: str
    oidc_claim_company: str
    oidc_claim_campaigns: str
    oidc_token_lifetime_max_s: int
    oidc_client_id: str
    oidc_client_secret: str = field(repr=False)
    oidc_scopes: str
    session_idle_s: int
    session_max_s: int
    session_refresh_s: int
    export_max_bytes: int
    oidc_step_up_acr: tuple[str, ...]
    grants: Literal["claims", "required"]
    account_dormant_days: int
    review_share: float
    allow_local_keys: bool
    anchor_uri: str = field(repr=False)
    anchor_every_s: int
    four_eyes_above: int
    recording_max_bytes: int
    uploads_max: int
    streams_max: int
    upload_idle_s: int
    sweep_every_s: int
    sweep_brake_share: float
    sweep_brake_min: int
    receipts_name_listeners: bool
    ledger_retention_months: int
    phone_region: str

    @property
    def production(self) -> bool:
        """Tell whether embedded parts are refused."""
        return self.mode == "production"

    @property
    def embedded_issuer(self) -> bool:
        """Tell whether the service issues its own tokens."""
        return self.oidc_issuer == EMBEDDED_ISSUER

    def shown(self) -> dict[str, str]:
        """Return every setting as text without its credentials, for the log and the doctor."""
        return {
            one.name: without_credentials(_plain(getattr(self, one.name))) for one in fields(self)
        }


# name without prefix, field, how it is read, the text when absent; {data}, {host}, {port}, {grace}
# and {grants} stand for settings further up
RULES: Final[tuple[Rule, ...]] = (
    Rule("MODE", "mode", choice("embedded", "production"), "embedded"),
    Rule("DATA_DIR", "data_dir", absolute_folder, "data"),
    Rule("DATABASE_URI", "database_uri", uri, "sqlite:///{data}/vault/oubliette.db"),
    Rule("STORE_URI", "store_uri", uri, "file://{data}/vault/objects"),
    Rule("STORE_COUNTRY", "store_country", country, "FR"),
    Rule("KEYS_URI", "keys_uris", uris, "local:{data}/keyring/epochs,{data}/keyring/epochs-2"),
    Rule("KEY_PROVIDER_TIMEOUT_S", "key_provider_timeout_s", whole(1, 25), "10"),
    Rule("HSM_BACKUP_POLICY", "hsm_backup_policy", words_of_a_policy, ""),
    Rule("BLOB_PLACES", "blob_places", uris, "file://{data}/vault/blobs file://{data}/blobs-2"),
    Rule("SIGNING_KEY_URI", "signing_key_uri", uri, "local:{data}/keyring/signing"),
    Rule("LEDGER_URI", "ledger_uri", uri, "file://{data}/ledger"),
    Rule("LISTEN_HOST", "listen_host", text, "127.0.0.1"),
    Rule("LISTEN_PORT", "listen_port", whole(1, 65_535), "8080"),
    Rule("DRAIN_GRACE_S", "drain_grace_s", whole(0, 60), "{grace}"),
    Rule("PUBLIC_URL", "public_url", base_url, "http://{host}:{port}"),
    Rule("TRUSTED_PROXIES", "trusted_proxies", words, ""),
    Rule("OIDC_ISSUER", "oidc_issuer", public_base_url(EMBEDDED_ISSUER), EMBEDDED_ISSUER),
    Rule("OIDC_AUDIENCE", "oidc_audience", text, "urn:oubliette:api"),
    Rule("OIDC_ALGORITHMS", "oidc_algorithms", algorithms, "RS256 ES256"),
    Rule("OIDC_CLAIM_ROLES", "oidc_claim_roles", text, "roles"),
    Rule("OIDC_CLAIM_CONTROLLER", "oidc_claim_controller", text, "controller"),
    Rule("OIDC_CLAIM_COMPANY", "oidc_claim_company", text, "company"),
    Rule("OIDC_CLAIM_CAMPAIGNS", "oidc_claim_campaigns", text, "campaigns"),
    Rule("OIDC_TOKEN_LIFETIME_MAX_S", "oidc_token_lifetime_max_s", whole(60, 86_400), "3600"),
    Rule("OIDC_CLIENT_ID", "oidc_client_id", text, ""),
    Rule("OIDC_CLIENT_SECRET", "oidc_client_secret", text, ""),
    Rule("OIDC_SCOPES", "oidc_scopes", scopes, "openid"),
    Rule("SESSION_IDLE_S", "session_idle_s", whole(60, 86_400), "1800"),
    Rule("SESSION_MAX_S", "session_max_s", whole(60, 86_400), "28800"),
    Rule("SESSION_REFRESH_S", "session_refresh_s", whole(1, 3_600), "300"),
    Rule("EXPORT_MAX_BYTES", "export_max_bytes", size_bytes(1_024, 2**40), "10 GiB"),
    Rule("OIDC_STEP_UP_ACR", "oidc_step_up_acr", words, ""),
    Rule("GRANTS", "grants", choice("claims", "required"), "{grants}"),
    Rule("ACCOUNT_DORMANT_DAYS", "account_dormant_days", whole(30, 3_650), "90"),
    Rule("REVIEW_SHARE", "review_share", share, "0.02"),
    Rule("ALLOW_LOCAL_KEYS", "allow_local_keys", flag, "false"),
    Rule("ANCHOR_URI", "anchor_uri", text, ""),
    Rule("ANCHOR_EVERY_S", "anchor_every_s", whole(1, 86_400), "3600"),
    Rule("FOUR_EYES_ABOVE", "four_eyes_above", whole(1, 1_000_000), "100"),
    Rule("RECORDING_MAX_BYTES", "recording_max_bytes", size_bytes(1_024, 2**40), "2 GiB"),
    Rule("UPLOADS_MAX", "uploads_max", whole(1, 10_000), "64"),
    Rule("STREAMS_MAX", "streams_max", whole(1, 10_000), "256"),
    Rule("UPLOAD_IDLE_S", "upload_idle_s", whole(1, 3_600), "30"),
    Rule("SWEEP_EVERY_S", "sweep_every_s", whole(1, 86_400), "3600"),
    Rule("SWEEP_BRAKE_SHARE", "sweep_brake_share", share, "0.05"),
    Rule("SWEEP_BRAKE_MIN", "sweep_brake_min", whole(0, 10_000_000), "100"),
    Rule("RECEIPTS_NAME_LISTENERS", "receipts_name_listeners", flag, "false"),
    Rule("LEDGER_RETENTION_MONTHS", "ledger_retention_months", whole(6, 36), "12"),
    Rule("PHONE_REGION", "phone_region", country, "FR"),
)
_NAMES: Final = frozenset(PREFIX + rule.name for rule in RULES)


def load_settings(environ: Mapping[str, str]) -> Settings:
    """Read the settings from environment variables.

    Raises:
        SettingsInvalid: a name is unknown, a value malformed or out of bounds, or production mode
            was asked for with a part that only suits one machine; the fact ``setting`` names it.
    """
    _refuse_unknown(environ)
    given = {rule.field: environ.get(PREFIX + rule.name, "").strip() for rule in RULES}
    values: dict[str, Any] = {}
    for rule in RULES:
        filled = given[rule.field] or rule.default.format(**_anchors(values))
        try:
            values[rule.field] = rule.read(filled)
        except ValueError as err:
            raise SettingsInvalid(setting=PREFIX + rule.name, what=str(err)) from err
    settings = Settings(**values)
    _check_client(settings)
    if settings.production:
        _check_production(settings, given)
    return settings


def _refuse_unknown(environ: Mapping[str, str]) -> None:
    for name, value in environ.items():
        if not name.startswith(PREFIX) or name in _NAMES or name in CLIENT_ONLY:
            continue
        if _KUBERNETES.fullmatch(name) and _looks_injected(name, value):
            continue
        raise SettingsInvalid(setting=name, what="no such setting")


def _looks_injected(name: str, value: str) -> bool:
    """Tell Kubernetes' own variables from a misspelt ``..._PORT`` of ours."""
    return "_SERVICE_" in name or "://" in value or bool(re.search(r"_PORT_[0-9]+_", name))


def _anchors(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what defaults are built from, as far as it has been read."""
    host = str(values.get("listen_host", ""))
    return {
        "data": str(values.get("data_dir", "")),
        "host": f"[{host}]" if ":" in host else host,
        "port": str(values.get("listen_port", "")),
        "grants": "required" if values.get("mode") == "production" else "claims",
        "grace": "5" if values.get("mode") == "production" else "0",
    }


def _check_client(settings: Settings) -> None:
    """Keep tokens for the browser's log-in apart from tokens for the API."""
    if settings.oidc_client_id == settings.oidc_audience:
        _refuse("OIDC_CLIENT_ID", "not the audience of access tokens")
    if settings.oidc_client_secret and not settings.oidc_client_id:
        _refuse("OIDC_CLIENT_SECRET", "a secret without OIDC_CLIENT_ID")
    if settings.oidc_client_id and settings.embedded_issuer:
        _refuse("OIDC_CLIENT_ID", "the embedded issuer has no page to log in at")


def _check_production(settings: Settings, given: Mapping[str, str]) -> None:
    if settings.embedded_issuer:
        _refuse("OIDC_ISSUER", "production mode needs an issuer of its own")
    if not settings.oidc_step_up_acr:
        _refuse("OIDC_STEP_UP_ACR", "production mode needs the acr values that are strong enough")
    if urlsplit(settings.public_url).scheme != "https":
        _refuse("PUBLIC_URL", "production mode needs an https address")
    for needed in ("store_country", "database_uri", "store_uri"):
        if not given[needed]:
            _refuse(needed.upper(), "production mode has no default for this")
    local = any(one.startswith("local:") for one in settings.keys_uris)
    if local and not settings.allow_local_keys:
        _refuse("KEYS_URI", "production mode refuses local keys unless ALLOW_LOCAL_KEYS is true")
    offsite = any("offsite=1" in place for place in settings.blob_places)
    if len(settings.blob_places) < _PRODUCTION_PLACES or not offsite:
        _refuse("BLOB_PLACES", "production mode needs three places, one of them with offsite=1")


def _refuse(name: str, what: str) -> None:
    raise SettingsInvalid(setting=PREFIX + name, what=what)


def _plain(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
