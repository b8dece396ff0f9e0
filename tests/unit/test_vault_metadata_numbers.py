from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.metadata import NumberMatcher, mask_contact, same_number, to_e164
from vault.metadata_numbers import _bare

SAME = [
    "0612345678",
    "06 12 34 56 78",
    "06.12.34.56.78",
    "(06) 12-34-56-78",
    "+33612345678",
    "+33 6 12 34 56 78",
    "+33 (0)6 12 34 56 78",
    "0033612345678",
    "tel:+33612345678",
    "tel:+33-6-12-34-56-78;phone-context=x",
    "sip:+33612345678@pbx.example:5060;user=phone",
    "SIPS:0612345678@10.0.0.1",
    " 0612345678 ",
    "0612345678 ext. 12",
]
OTHER = [
    "0612345679",
    "1612345678",
    "+44612345678",
    "+1 612 345 6780",
    "5678",
    "12345678",
    "",
    "Zoé",
    "sip:zoe@pbx.example",
    "0" * 400,
]


@pytest.mark.parametrize("spelling", SAME)
def test_spellings_of_one_number_are_the_same(spelling: str) -> None:
    assert to_e164(spelling, "FR") == "+33612345678"
    for other in SAME:
        assert same_number(spelling, other, "FR")


@pytest.mark.parametrize("spelling", OTHER)
def test_other_numbers_are_not(spelling: str) -> None:
    for one in SAME:
        assert not same_number(one, spelling, "FR")
        assert not same_number(spelling, one, "FR")


def test_the_region_decides_how_a_national_number_reads() -> None:
    assert to_e164("0471 23 45 67", "BE") == "+32471234567"
    assert to_e164("04 71 23 45 67", "FR") == "+33471234567"
    assert to_e164("022 345 67 89", "CH") == "+41223456789"
    assert same_number("022 345 67 89", "+41 22 345 67 89", "CH")
    assert not same_number("022 345 67 89", "+41 22 345 67 89", "FR")


@pytest.mark.parametrize("extension", ["1234", "15", "112", "3900", "101"])
def test_extensions_and_short_codes_only_equal_themselves(extension: str) -> None:
    assert to_e164(extension, "FR") is None
    assert same_number(extension, extension, "FR")
    assert not same_number(extension, "+33" + extension, "FR")
    assert not same_number("061234" + extension, extension, "FR")


@pytest.mark.parametrize("number", [None, "", " ", "\r", "tel: "])
def test_nobody_is_nobody(number: str | None) -> None:
    assert not NumberMatcher("0612345678", "FR").matches(number)
    assert not NumberMatcher("", "FR").matches(number)
    assert not NumberMatcher(" ", "FR").matches(number)


@given(st.text(max_size=60))
def test_any_text_compares_without_an_error(text: str) -> None:
    e164 = to_e164(text, "FR")
    assert e164 is None or (e164.startswith("+") and e164[1:].isdigit())
    assert same_number(text, text, "FR") is bool(_bare(text))
    mask_contact(text)


@given(st.integers(100_000_000, 999_999_999), st.integers(100_000_000, 999_999_999))
def test_the_quick_look_at_the_last_digits_changes_no_answer(one: int, other: int) -> None:
    a, b = f"0{one}", f"+33{other}"
    slow = to_e164(a, "FR") is not None and to_e164(a, "FR") == to_e164(b, "FR")
    assert same_number(a, b, "FR") is slow


@pytest.mark.parametrize(
    ("number", "masked"),
    [
        ("0612345678", "••••78"),
        ("+33 6 12 34 56 78", "••••78"),
        ("sip:+33612345678@10.11.12.13", "••••78"),
        ("0612345678;ext=99", "••••78"),
        ("123456", "••••56"),
        ("12345", "••••"),
        ("1234", "••••"),
        ("Zoé", "••••"),
        ("", "••••"),
    ],
)
def test_a_masked_contact_shows_two_digits_at_most(number: str, masked: str) -> None:
    assert mask_contact(number) == masked
