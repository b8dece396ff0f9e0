"""Secrets of deposit keys and upload addresses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from vault import deposit_secret
from vault.errors import DepositKeyNotFound

KEY = deposit_secret.spell(deposit_secret.KEY_PREFIX, bytes(range(32)))
TOKEN = deposit_secret.spell(deposit_secret.URL_PREFIX, bytes(range(32)))
NOW = datetime(2026, 3, 2, tzinfo=UTC)


def row(**changes: object) -> dict[str, object]:
    return {
        "kind": "url",
        "revoked_at": None,
        "expires_at": NOW + timedelta(minutes=15),
        "external_id_mac": deposit_secret.external_id_mac(TOKEN, "call-1"),
        **changes,
    }


def test_a_secret_is_a_prefix_and_256_bits() -> None:
    assert KEY.startswith("okd_")
    assert len(KEY) == 4 + 43
    deposit_secret.check_spelling(KEY)
    deposit_secret.check_spelling(TOKEN)


@pytest.mark.parametrize(
    "text", ["", "okd_", KEY + "x", KEY[:-1], "xkd_" + KEY[4:], KEY[:-1] + "é"]
)
def test_what_is_spelt_otherwise_is_refused_unread(text: str) -> None:
    with pytest.raises(DepositKeyNotFound):
        deposit_secret.check_spelling(text)


def test_what_is_kept_is_neither_the_secret_nor_a_bare_hash_of_the_id() -> None:
    kept = deposit_secret.fingerprint(TOKEN) + deposit_secret.external_id_mac(TOKEN, "call-1")
    assert TOKEN.encode() not in kept
    assert deposit_secret.external_id_mac(TOKEN, "call-1") != deposit_secret.external_id_mac(
        KEY, "call-1"
    )


def test_an_address_takes_its_own_id_in_time_and_nothing_else() -> None:
    def valid(external_id: str | None, now: datetime, **changes: object) -> bool:
        return deposit_secret.is_valid(row(**changes), TOKEN, external_id=external_id, now=now)

    assert valid("call-1", NOW)
    assert not valid("call-2", NOW)
    assert not valid(None, NOW)
    assert not valid("call-1", NOW + timedelta(minutes=15))
    assert not valid("call-1", NOW, revoked_at=NOW)
    assert not valid("call-1", NOW, external_id_mac=None)


def test_a_key_takes_any_id_until_it_is_revoked() -> None:
    key = {"kind": "key", "revoked_at": None, "expires_at": None, "external_id_mac": None}
    assert deposit_secret.is_valid(key, KEY, external_id=None, now=NOW)
    assert deposit_secret.is_valid(key, KEY, external_id="call-1", now=NOW)
    assert not deposit_secret.is_valid({**key, "revoked_at": NOW}, KEY, external_id=None, now=NOW)
    assert not deposit_secret.is_valid(key, TOKEN, external_id=None, now=NOW)
