"""Settings: read once, unknown names refused, embedded parts refused in production."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from api.errors import SettingsInvalid
from api.settings import EMBEDDED_ISSUER, RULES, Settings, load_settings
from api.settings_text import is_loopback, without_credentials

ROOT = Path(__file__).parents[2]
PRODUCTION = {
    "MODE": "production",
    "DATABASE_URI": "postgresql://oubliette:hunter2@db/oubliette",
    "STORE_URI": "s3://recordings/v?endpoint=https://s3.test",
    "STORE_COUNTRY": "FR",
    "KEYS_URI": "pkcs11:token=vault",
    "BLOB_PLACES": "database: file:///srv/blobs s3://blobs/x?offsite=1",
    "OIDC_ISSUER": "https://login.test/realms/acme",
    "OIDC_STEP_UP_ACR": "urn:mfa",
    "PUBLIC_URL": "https://vault.test",
}


def load(**given: str) -> Settings:
    return load_settings({f"OUBLIETTE_{name}": value for name, value in given.items()})


def refused(**given: str) -> dict[str, Any]:
    with pytest.raises(SettingsInvalid) as caught:
        load(**given)
    return caught.value.facts


def test_nothing_given_is_an_embedded_vault_in_data() -> None:
    settings = load()
    assert settings.mode == "embedded"
    assert settings.data_dir == Path.cwd() / "data"
    assert settings.database_uri == f"sqlite:///{Path.cwd()}/data/vault/oubliette.db"
    assert settings.public_url == "http://127.0.0.1:8080"
    assert settings.embedded_issuer
    assert settings.recording_max_bytes == 2 * 2**30
    assert settings.trusted_proxies == ()


def test_keys_lie_apart_from_the_vault() -> None:
    settings = load(DATA_DIR="/srv/o")
    vault = ("/srv/o/vault", "/srv/o/ledger", "/srv/o/blobs-2")
    for uri in (*settings.keys_uris, settings.signing_key_uri):
        assert "/srv/o/keyring/" in uri
        assert not any(folder in uri for folder in vault)


def test_addresses_follow_the_listener() -> None:
    assert load(LISTEN_PORT="9000").public_url == "http://127.0.0.1:9000"
    assert load(LISTEN_HOST="::1").public_url == "http://[::1]:8080"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OUBLIETTE_LISTN_PORT", "9000"),
        ("OUBLIETTE_SWEEP_BRAKE_SHAER", "0.5"),
        ("OUBLIETTE_MY_PORT", "9000"),
        ("OUBLIETTE_", "x"),
    ],
)
def test_unknown_names_are_refused(name: str, value: str) -> None:
    with pytest.raises(SettingsInvalid) as caught:
        load_settings({name: value})
    assert caught.value.facts["setting"] == name


def test_what_kubernetes_injects_is_ignored() -> None:
    injected = {
        "OUBLIETTE_SERVICE_HOST": "10.0.0.1",
        "OUBLIETTE_SERVICE_PORT": "80",
        "OUBLIETTE_SERVICE_PORT_HTTP": "80",
        "OUBLIETTE_PORT": "tcp://10.0.0.1:80",
        "OUBLIETTE_PORT_80_TCP": "tcp://10.0.0.1:80",
        "OUBLIETTE_PORT_80_TCP_PROTO": "tcp",
        "OUBLIETTE_PORT_80_TCP_ADDR": "10.0.0.1",
        "OUBLIETTE_CONSOLE_SERVICE_HOST": "10.0.0.2",
        "OUBLIETTE_URL": "https://vault.test",
        "OUBLIETTE_TOKEN": "x",
        "PATH": "/bin",
    }
    assert load_settings(injected) == load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODE", "staging"),
        ("LISTEN_PORT", "0"),
        ("LISTEN_PORT", "65536"),
        ("LISTEN_PORT", "80 80"),
        ("LISTEN_PORT", "\u0661"),
        ("RECORDING_MAX_BYTES", "2 PiB"),
        ("RECORDING_MAX_BYTES", "-77"),
        ("RECORDING_MAX_BYTES", "88"),
        ("SWEEP_BRAKE_SHARE", "5"),
        ("SWEEP_BRAKE_SHARE", "nan"),
        ("ALLOW_LOCAL_KEYS", "yes"),
        ("STORE_COUNTRY", "fr"),
        ("PUBLIC_URL", "vault.test"),
        ("PUBLIC_URL", "https://vault.test/path"),
        ("PUBLIC_URL", "https://user:pass@vault.test"),
        ("OIDC_ISSUER", "http://login.test"),
        ("OIDC_ISSUER", "https://login.test?x=1"),
        ("OIDC_ALGORITHMS", "HS256"),
        ("OIDC_ALGORITHMS", "none"),
        ("OIDC_TOKEN_LIFETIME_MAX_S", "86401"),
        ("KEYS_URI", "/srv/keys"),
        ("DATABASE_URI", "not a uri"),
        ("DATA_DIR", "/srv/o,x"),
        ("LEDGER_RETENTION_MONTHS", "5"),
        ("LEDGER_RETENTION_MONTHS", "37"),
        ("LISTEN_HOST", "a\u0007b"),
    ],
)
def test_values_out_of_bounds_name_the_setting_and_never_repeat_the_value(
    name: str, value: str
) -> None:
    facts = refused(**{name: value})
    assert facts["setting"] == f"OUBLIETTE_{name}"
    assert value not in str(facts["what"])


@pytest.mark.parametrize(
    ("value", "count"), [("1048576", 2**20), ("64MiB", 2**26), ("2 GiB", 2**31), ("1 tib", 2**40)]
)
def test_sizes(value: str, count: int) -> None:
    assert load(RECORDING_MAX_BYTES=value).recording_max_bytes == count


def test_lists_and_absent_values() -> None:
    settings = load(
        TRUSTED_PROXIES="10.0.0.1, 10.0.0.2", OIDC_ALGORITHMS="ES256 ES384", MODE="  ",
        KEYS_URI="pkcs11:a  local:/srv/k",
    )  # fmt: skip
    assert settings.trusted_proxies == ("10.0.0.1", "10.0.0.2")
    assert settings.oidc_algorithms == ("ES256", "ES384")
    assert settings.keys_uris == ("pkcs11:a", "local:/srv/k")
    assert settings.mode == "embedded"


def test_a_whole_production_setting_is_taken() -> None:
    settings = load(**PRODUCTION)
    assert settings.production
    assert not settings.embedded_issuer


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        ({"OIDC_ISSUER": ""}, "OIDC_ISSUER"),
        ({"OIDC_STEP_UP_ACR": ""}, "OIDC_STEP_UP_ACR"),
        ({"OIDC_ISSUER": EMBEDDED_ISSUER}, "OIDC_ISSUER"),
        ({"PUBLIC_URL": "http://vault.test"}, "PUBLIC_URL"),
        ({"PUBLIC_URL": ""}, "PUBLIC_URL"),
        ({"STORE_COUNTRY": ""}, "STORE_COUNTRY"),
        ({"DATABASE_URI": ""}, "DATABASE_URI"),
        ({"STORE_URI": ""}, "STORE_URI"),
        ({"KEYS_URI": ""}, "KEYS_URI"),
        ({"KEYS_URI": "pkcs11:a local:/srv/k"}, "KEYS_URI"),
        ({"BLOB_PLACES": "database: file:///b?offsite=1"}, "BLOB_PLACES"),
        ({"BLOB_PLACES": "database: file:///b file:///c"}, "BLOB_PLACES"),
    ],
)
def test_production_refuses_embedded_parts(change: dict[str, str], setting: str) -> None:
    assert refused(**(PRODUCTION | change))["setting"] == f"OUBLIETTE_{setting}"


def test_local_keys_in_production_when_allowed_by_name() -> None:
    settings = load(**(PRODUCTION | {"KEYS_URI": "local:/srv/k", "ALLOW_LOCAL_KEYS": "true"}))
    assert settings.keys_uris == ("local:/srv/k",)


def test_no_credential_is_shown() -> None:
    settings = load(**(PRODUCTION | {"STORE_URI": "s3://k:s3cret@b/x?secret_key=s3cret&region=r"}))
    shown = repr(settings) + str(settings.shown())
    assert "hunter2" not in shown
    assert "s3cret" not in shown
    assert settings.shown()["database_uri"] == "postgresql://...@db/oubliette"
    assert settings.shown()["store_uri"] == "s3://...@b/x?secret_key=...&region=r"
    assert without_credentials("plain words") == "plain words"


def test_loopbacks() -> None:
    assert all(map(is_loopback, ["localhost", "127.0.0.1", "127.9.9.9", "::1"]))
    assert not any(map(is_loopback, ["", "localhost.test", "10.0.0.1", "0.0.0.0", "2130706433"]))  # noqa: S104


def test_the_page_of_settings_lists_each_with_its_default() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.+?) \|", page, re.MULTILINE))
    named = {"data": "<data>", "host": "<host>", "port": "<port>", "grants": "<grants>"}
    named["grace"] = "<grace>"
    expected = {rule.name: rule.default.format(**named) for rule in RULES}
    assert set(rows) == set(expected)
    for name, default in expected.items():
        assert rows[name] == (f"`{default}`" if default else "none"), name
