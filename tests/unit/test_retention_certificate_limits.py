"""What each key provider cannot promise stands on the certificate, in both languages."""

from __future__ import annotations

import pytest

from retention import certificate_limits as limits

DESTROYED = "2026-03-02T09:02:00.123Z"


def facts(**more: str) -> dict[str, str]:
    return {"destroyed_at": DESTROYED, **more}


def test_both_languages_know_the_same_limits() -> None:
    assert limits.FRENCH.keys() == limits.ENGLISH.keys()


@pytest.mark.parametrize("words", [limits.FRENCH, limits.ENGLISH])
@pytest.mark.parametrize(
    "code", ["best-effort-media", "hsm-backups", "kms-deletion-7-days", "raft-snapshots"]
)
def test_every_providers_limit_has_words_and_no_gap_in_them(
    words: dict[str, str], code: str
) -> None:
    said = limits.said(words, code, facts())
    assert len(said) > 80
    assert code not in said
    assert "{" not in said
    assert all(len(line) <= 100 for line in said.split("\n"))


def test_a_kms_has_two_dates() -> None:
    for words in (limits.FRENCH, limits.ENGLISH):
        said = limits.said(words, "kms-deletion-30-days", facts())
        assert "2026-03-02 09:02" in said
        assert "2026-04-01" in said
    found = ("best-effort-media", "kms-deletion-7-days", "kms-deletion-30-days")
    assert limits.keys_deleted_on(found, DESTROYED) == "2026-04-01"
    assert limits.keys_deleted_on(("best-effort-media",), DESTROYED) is None


def test_the_declared_policy_of_hsm_backups_is_printed_and_so_is_its_absence() -> None:
    said = limits.said(limits.ENGLISH, "hsm-backups", facts(hsm_backup_policy="kept 14 days."))
    assert said.endswith("kept 14 days.")
    assert limits.said(limits.FRENCH, "hsm-backups", facts()).endswith("aucune.")
    assert limits.said(limits.ENGLISH, "hsm-backups", facts(hsm_backup_policy="")).endswith("none.")


def test_a_policy_with_braces_is_text_like_any_other() -> None:
    said = limits.said(limits.ENGLISH, "hsm-backups", facts(hsm_backup_policy="{deleted} {0}"))
    assert said.endswith("{deleted} {0}")


def test_a_limit_that_nobody_explained_is_shown_as_it_is() -> None:
    assert limits.said(limits.ENGLISH, "kms-deletion-soon", facts()) == "kms-deletion-soon"
