from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retention.errors import PolicyInvalid
from retention.policy import MIFID_ARTICLE, PRESETS, PolicyRequest, check, parse_period

REQUEST = PolicyRequest(
    legal_basis="legitimate-interests",
    balancing_text="Staff are told, calls are kept short.",
    listen_purposes=("training",),
    countries=("FR",),
    preset="quality",
)
WHY = "The works council asked for a year of calls, see the minutes."


@pytest.mark.parametrize(
    ("text", "months", "days"),
    [
        ("P1D", 0, 1),
        ("P3650D", 0, 3650),
        ("P6M", 6, 0),
        ("P10Y", 120, 0),
        ("P120M", 120, 0),
        ("P2W", 0, 14),
        ("P1Y6M10D", 18, 10),
    ],
)
def test_reads_periods(text: str, months: int, days: int) -> None:
    period = parse_period(text)
    assert (period.text, period.months, period.days) == (text, months, days)


@pytest.mark.parametrize(
    "text",
    ["", "P", "6M", "P0D", "P0M", "P10Y1D", "P121M", "P3654D", "PT1H", "P1DT1H", "P-1D", "P1.5M",
     "p6m", "P6M ", "P6M\n", "P1D1M", "P٦M", "P1M1Y", "P99999D", "P 6M", "P6"],
)  # fmt: skip
def test_refuses_what_is_no_period(text: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        parse_period(text)
    assert caught.value.facts["field"] == "retention"


@pytest.mark.parametrize(
    ("start", "text", "end"),
    [
        ("2026-08-31T10:00", "P6M", "2027-02-28T10:00"),
        ("2027-08-31T10:00", "P6M", "2028-02-29T10:00"),
        ("2028-02-29T10:00", "P1Y", "2029-02-28T10:00"),
        ("2026-12-31T23:59", "P2M", "2027-02-28T23:59"),
        ("2026-01-31T00:00", "P1M1D", "2026-03-01T00:00"),
        ("2026-03-28T01:30", "P1D", "2026-03-29T01:30"),  # the night Paris skips 02:00
        ("2026-10-24T00:30", "P1D", "2026-10-25T00:30"),  # the night it lives twice
    ],
)
def test_calendar_arithmetic_clamps_to_the_end_of_the_month(
    start: str, text: str, end: str
) -> None:
    at = datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert parse_period(text).after(at) == datetime.fromisoformat(end).replace(tzinfo=UTC)


@given(
    st.integers(0, 4_000_000_000),
    st.integers(1, 3650),
)
def test_days_are_days(at_s: int, days: int) -> None:
    at = datetime.fromtimestamp(at_s, tz=UTC)
    assert parse_period(f"P{days}D").after(at) - at == timedelta(days=days)


def test_every_preset_is_a_period_it_can_spell() -> None:
    assert {name: period.text for name, period in PRESETS.items()} == {
        "three-months": "P3M",
        "six-months": "P6M",
        "quality": "P6M",
        "mifid": "P5Y",
    }
    assert all(parse_period(period.text) == period for period in PRESETS.values())


def test_a_preset_brings_its_own_period() -> None:
    assert check(REQUEST).period.text == "P6M"
    assert check(replace(REQUEST, preset="three-months")).period.text == "P3M"
    assert (
        check(replace(REQUEST, preset="mifid", legal_basis="legal-obligation")).period.months == 60
    )


def test_more_than_six_months_needs_a_typed_justification() -> None:
    year = replace(REQUEST, retention="P12M")
    for text in ("", "short", "x" * 40):
        with pytest.raises(PolicyInvalid) as caught:
            check(replace(year, justification=text))
        assert caught.value.facts == {"field": "justification", "longer_than": "P6M"}
    assert check(replace(year, justification=WHY)).period.text == "P12M"
    assert check(replace(year, preset=None, justification=WHY)).preset is None


@pytest.mark.parametrize(("text", "needs"), [("P181D", False), ("P182D", True), ("P26W", True)])
def test_six_months_counted_in_days_are_the_shortest_six_months(text: str, needs: bool) -> None:
    request = replace(REQUEST, preset=None, retention=text)
    if needs:
        with pytest.raises(PolicyInvalid):
            check(request)
    else:
        assert check(request).period.text == text


@pytest.mark.parametrize("text", ["P59M", "P4Y11M", "P1826D", "P7Y1D", "P10Y"])
def test_mifid_is_kept_between_five_and_seven_years(text: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        check(replace(REQUEST, preset="mifid", retention=text, justification=WHY))
    assert caught.value.facts["rule"] == MIFID_ARTICLE


def test_seven_years_of_mifid_are_asked_for_by_an_authority() -> None:
    seven = replace(REQUEST, preset="mifid", retention="P7Y")
    with pytest.raises(PolicyInvalid):
        check(seven)
    terms = check(replace(seven, justification="Requested by the AMF on 3 March 2026."))
    assert terms.floor is not None
    assert terms.floor.text == "P5Y"
    assert check(REQUEST).floor is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"preset": "forever"}, "preset"),
        ({"preset": None}, "retention"),
        ({"preset": "three-months", "retention": "P6M"}, "retention"),
        ({"legal_basis": "because"}, "legal_basis"),
        ({"balancing_text": " "}, "balancing_text"),
        ({"balancing_text": "x\x00y z"}, "balancing_text"),
        ({"balancing_text": "x\u202ey z"}, "balancing_text"),
        ({"balancing_text": "x " * 2001}, "balancing_text"),
        ({"countries": ()}, "countries"),
        ({"countries": ("fr",)}, "countries"),
        ({"countries": ("FR", "FR")}, "countries"),
        ({"countries": ("FRA",)}, "countries"),
        ({"listen_purposes": ()}, "listen_purposes"),
        ({"listen_purposes": ("fun",)}, "listen_purposes"),
        ({"processor": "x" * 201}, "processor"),
        ({"processor": "a\nb\x1b[0m"}, "processor"),
    ],
)
def test_names_the_field_that_is_wrong(change: dict[str, object], field: str) -> None:
    with pytest.raises(PolicyInvalid) as caught:
        check(replace(REQUEST, **change))  # type: ignore[arg-type]  # one case a row
    assert caught.value.facts["field"] == field


def test_other_bases_need_no_balancing_text() -> None:
    assert check(replace(REQUEST, legal_basis="consent", balancing_text="")).balancing_text == ""
