"""What of the console needs no service: its words, and how an origin is spelt."""

from __future__ import annotations

import pytest

from api.console.door import origin_of
from api.console.words import WORDS, language_of


def test_both_languages_say_the_same_things() -> None:
    assert set(WORDS["en"]) == set(WORDS["fr"])
    assert language_of("", "fr-FR,fr;q=0.9,en;q=0.8") == "fr"
    assert language_of("en", "fr") == "en"
    assert language_of("", "de, fr;q=0.5") == "fr"
    assert language_of("xx", "") == "en"


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Vault.example:443", "https://vault.example"),
        ("https://vault.example:8443", "https://vault.example:8443"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_an_origin_is_spelt_as_browsers_spell_it(url: str, origin: str) -> None:
    assert origin_of(url) == origin
