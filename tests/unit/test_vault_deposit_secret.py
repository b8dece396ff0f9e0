"""Secrets of deposit keys and upload addresses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from vault import deposit_secret
from vault.errors import DepositKeyNotFound

KEY = deposit_secret.spell(deposit_secret.KEY_PREFIX, bytes(range(32)))
TOKEN = deposit_secret.spell(deposit_secret.URL_PREFIX, bytes(range(32)))
NOW = datetime(2026, 3, 2, tzinfo=UTC)


ADDRESS = deposit_secret.KeptSecret(
    kind="url",
    revoked_at=None,
    expires_at=NOW + timedelta(minutes=15),
    external_id_mac=deposit_secret.external_id_mac(TOKEN, "call-1"),
)


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
    assert ADDRESS.is_valid(TOKEN, external_id="call-1", now=NOW)
    assert not ADDRESS.is_valid(TOKEN, external_id="call-2", now=NOW)
    assert not ADDRESS.is_valid(TOKEN, external_id=None, now=NOW)
    assert not ADDRESS.is_valid(TOKEN, external_id="call-1", now=NOW + timedelta(minutes=15))
    revoked = replace(ADDRESS, revoked_at=NOW)
    assert not revoked.is_valid(TOKEN, external_id="call-1", now=NOW)
    unbound = replace(ADDRESS, external_id_mac=None)
    assert not unbound.is_valid(TOKEN, external_id="call-1", now=NOW)


def test_a_key_takes_any_id_until_it_is_revoked() -> None:
    key = deposit_secret.KeptSecret("key", None, None, None)
    assert key.is_valid(KEY, external_id=None, now=NOW)
    assert key.is_valid(KEY, external_id="call-1", now=NOW)
    assert not replace(key, revoked_at=NOW).is_valid(KEY, external_id=None, now=NOW)
    assert not key.is_valid(TOKEN, external_id=None, now=NOW)
