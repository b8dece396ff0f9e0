"""What a retention policy may say, and calendar arithmetic on it. Pure: no clock, no I/O.

A period is an ISO 8601 duration of years, months, weeks and days, from ``P1D`` to ``P10Y``; hours
and fractions are refused, because nobody counts them alike. Arithmetic is in UTC: months first,
the day clamped to the end of a shorter month (31 August + ``P6M`` = 28 or 29 February), then days.
Summer time therefore moves nothing.

Presets bind a purpose to its yardstick:

- ``three-months`` and ``six-months``: the two periods that campaigns ask for;
- ``quality``: the CNIL's yardstick for training and quality (NS-057), audio 6 months;
- ``mifid``: MiFID II Art. 16(7), never under 5 years, 7 on an authority's request.

Without the ``mifid`` obligation, more than 6 months needs a typed justification.

Source: ISO 8601-1:2019 section 5.5.2; CNIL NS-057; Directive 2014/65/EU Art. 16(7); GDPR Art. 6(1).
"""

from __future__ import annotations

import calendar
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Final

from retention.errors import PolicyInvalid
from vault.access import DPO_PURPOSES, PURPOSES

MIFID_ARTICLE: Final = "Directive 2014/65/EU (MiFID II) Art. 16(7)"
LEGAL_BASES: Final = frozenset(
    {
        "consent",
        "contract",
        "legal-obligation",
        "vital-interests",
        "public-task",
        "legitimate-interests",
    }
)
JUSTIFICATION_CHARACTERS_MIN: Final = 20
TEXT_CHARACTERS_MAX: Final = 4_000
PROCESSOR_CHARACTERS_MAX: Final = 200
_SPELLING: Final = re.compile(
    r"P(?=[0-9])(?:(?P<years>\d{1,2})Y)?(?:(?P<months>\d{1,3})M)?"
    r"(?:(?P<weeks>\d{1,3})W)?(?:(?P<days>\d{1,4})D)?",
    re.ASCII,
)
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
# first days of 48 months with one leap day: every length a period can have shows from one of them
_REFERENCES: Final = tuple(
    datetime(2001 + month // 12, month % 12 + 1, 1, tzinfo=UTC) for month in range(48)
)


@dataclass(frozen=True)
class Period:
    """An ISO 8601 duration of whole days or more.

    Attributes:
        text: as it was written. months: years counted in. days: weeks counted in.
    """

    text: str
    months: int
    days: int

    def after(self, instant: datetime) -> datetime:
        """Return the instant this long after an aware instant, in UTC, at the same time of day."""
        utc = instant.astimezone(UTC)
        months = utc.year * 12 + utc.month - 1 + self.months
        year, month = months // 12, months % 12 + 1
        day = min(utc.day, calendar.monthrange(year, month)[1])
        return utc.replace(year=year, month=month, day=day) + timedelta(days=self.days)

    def may_exceed(self, other: Period) -> bool:
        """Tell whether there is a start from which this ends later than ``other``."""
        return any(self.after(start) > other.after(start) for start in _REFERENCES)


@lru_cache(maxsize=256)
def parse_period(text: str) -> Period:
    """Read a period; every deposit and every row of a list asks for the same few.

    Raises:
        PolicyInvalid: not an ISO 8601 duration in days or more, or outside P1D to P10Y.
    """
    match = _SPELLING.fullmatch(text)
    if match is None:
        raise PolicyInvalid(field="retention")
    years, months, weeks, days = (
        int(match[name] or 0) for name in ("years", "months", "weeks", "days")
    )
    period = Period(text, 12 * years + months, 7 * weeks + days)
    if period.months + period.days == 0 or period.may_exceed(LONGEST):
        raise PolicyInvalid(field="retention", shortest="P1D", longest=LONGEST.text)
    return period


LONGEST: Final = Period("P10Y", 120, 0)
YARDSTICK: Final = Period("P6M", 6, 0)
MIFID_FLOOR: Final = Period("P5Y", 60, 0)
MIFID_LONGEST: Final = Period("P7Y", 84, 0)

PRESETS: Final[Mapping[str, Period]] = MappingProxyType(
    {
        "three-months": Period("P3M", 3, 0),
        "six-months": YARDSTICK,
        "quality": YARDSTICK,
        "mifid": MIFID_FLOOR,
    }
)


@dataclass(frozen=True)
class PolicyRequest:
    """What a DPO asks for; nothing in it is trusted before ``check``.

    Attributes:
        retention: ISO 8601, or None for the preset's own period.
        preset: a key of ``PRESETS``, or None.
        countries: ISO 3166-1 alpha-2 codes where the recordings may lie.
        processor: the call centre's name, "" when the controller calls itself.
        sensitive_purposes: those for which a listen wants a second person.
    """

    legal_basis: str
    balancing_text: str
    listen_purposes: tuple[str, ...]
    countries: tuple[str, ...]
    processor: str = ""
    preset: str | None = None
    retention: str | None = None
    justification: str = ""
    sensitive_purposes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Terms:
    """The part of a policy that retention owns, checked."""

    preset: str | None
    period: Period
    legal_basis: str
    balancing_text: str
    justification: str

    @property
    def floor(self) -> Period | None:
        """Return the period before which a law forbids erasure, if there is one."""
        return MIFID_FLOOR if self.preset == "mifid" else None


def check(request: PolicyRequest) -> Terms:
    """Return the terms of an acceptable request.

    Raises:
        PolicyInvalid: facts name the field and, where there is one, the rule.
    """
    period = _period(request)
    if request.legal_basis not in LEGAL_BASES:
        raise PolicyInvalid(field="legal_basis")
    balancing = _text(request.balancing_text, "balancing_text")
    if request.legal_basis == "legitimate-interests" and not _has_words(balancing):
        raise PolicyInvalid(field="balancing_text", rule="GDPR Art. 6(1)(f)")
    justification = _text(request.justification, "justification")
    yardstick = MIFID_FLOOR if request.preset == "mifid" else YARDSTICK
    if period.may_exceed(yardstick) and not (
        _has_words(justification) and len(justification) >= JUSTIFICATION_CHARACTERS_MIN
    ):
        raise PolicyInvalid(field="justification", longer_than=yardstick.text)
    if not request.listen_purposes or not set(request.listen_purposes) <= set(PURPOSES):
        raise PolicyInvalid(field="listen_purposes")
    if not set(request.sensitive_purposes) <= set(request.listen_purposes) | DPO_PURPOSES:
        raise PolicyInvalid(field="sensitive_purposes")
    _check_countries(request.countries)
    _text(request.processor, "processor", longest=PROCESSOR_CHARACTERS_MAX)
    return Terms(request.preset, period, request.legal_basis, balancing, justification)


def _period(request: PolicyRequest) -> Period:
    if request.preset is not None and request.preset not in PRESETS:
        raise PolicyInvalid(field="preset")
    if request.retention is not None:
        period = parse_period(request.retention)
    elif request.preset is not None:
        period = PRESETS[request.preset]
    else:
        raise PolicyInvalid(field="retention")
    if request.preset == "mifid":
        if MIFID_FLOOR.may_exceed(period):
            raise PolicyInvalid(field="retention", shortest=MIFID_FLOOR.text, rule=MIFID_ARTICLE)
        if period.may_exceed(MIFID_LONGEST):
            raise PolicyInvalid(field="retention", longest=MIFID_LONGEST.text, rule=MIFID_ARTICLE)
    elif request.preset in {"three-months", "six-months"} and period != PRESETS[request.preset]:
        raise PolicyInvalid(field="retention", preset=request.preset)
    return period


def _has_words(text: str) -> bool:
    return len(text.split()) > 1


def _check_countries(countries: tuple[str, ...]) -> None:
    if not countries or len(set(countries)) != len(countries):
        raise PolicyInvalid(field="countries")
    if any(_COUNTRY.fullmatch(country) is None for country in countries):
        raise PolicyInvalid(field="countries")


def _text(text: str, field: str, *, longest: int = TEXT_CHARACTERS_MAX) -> str:
    clean = unicodedata.normalize("NFC", text).strip()
    hidden = any(
        unicodedata.category(character) in {"Cc", "Cf", "Cs", "Co", "Cn"} and character != "\n"
        for character in clean
    )
    if len(clean) > longest or hidden:
        raise PolicyInvalid(field=field)
    return clean
