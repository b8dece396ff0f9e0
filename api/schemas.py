"""Shapes of requests and answers, as OpenAPI shows them; what they mean is decided by the flows.

Requests refuse members nobody knows and never coerce ("1" is no number, 1 is no text). Answers are
read off the flows' own values: a member has the name it has there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from api.limits import LIMITS
from core.clock import to_text
from vault.access import PURPOSES

_TIME_EXAMPLE: Final = "2026-03-02T09:30:00.000Z"


def _spelt(value: object) -> object:
    return to_text(value) if isinstance(value, datetime) else value


def _hex(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value


def _in_utc(value: datetime) -> datetime:
    """Refuse the few instants that a zone of their own lets lie outside the years 1 to 9999."""
    try:
        return value.astimezone(UTC)
    except OverflowError as err:
        raise ValueError("outside the calendar") from err


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Instant = Annotated[
    str,
    BeforeValidator(_spelt),
    Field(json_schema_extra={"format": "date-time"}, examples=[_TIME_EXAMPLE]),
]
Digest = Annotated[str, BeforeValidator(_hex), Field(pattern=r"^[0-9a-f]{64}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$", examples=["winter-sale"])]
Country = Annotated[str, Field(json_schema_extra={"pattern": "^[A-Z]{2}$"}, examples=["FR"])]
Purpose = Annotated[str, Field(max_length=40, json_schema_extra={"enum": list(PURPOSES)})]
Reason = Annotated[
    str,
    Field(
        max_length=4 * LIMITS.reason_max_characters,
        description=(
            f"{LIMITS.reason_min_characters} to {LIMITS.reason_max_characters} characters "
            "after trimming, at least two words."
        ),
        json_schema_extra={"pattern": r"[^\s]{5,} [^\s]{5,}"},
        examples=["Request of the data subject of 2 March"],
    ),
]


class Request(BaseModel):
    """A request body: strict, nothing unknown."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """A response body."""

    model_config = ConfigDict(from_attributes=True)


class Problem(Answer):
    """RFC 9457; facts stand beside these as further members."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["urn:oubliette:error:recording-not-found"])]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    code: str


class Alive(Answer):
    """The process, or the service, answers."""

    status: Annotated[str, Field(examples=["ok"])]


class Version(Answer):
    """Which program answers."""

    service: Annotated[str, Field(examples=["oubliette"])]
    version: Annotated[str, Field(examples=["0.1.0"])]
    api: Annotated[str, Field(examples=["v1"])]


def json_example(**members: Any) -> ConfigDict:
    """Return the configuration of a request with a whole example."""
    return ConfigDict(extra="forbid", strict=True, json_schema_extra={"examples": [members]})
