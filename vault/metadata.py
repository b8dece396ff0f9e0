"""What a sender says about a call: read strictly, kept sealed, compared without an index.

The JSON object a deposit brings may hold ``started_at direction agent contact_number
contact_reference channels consent notice free`` and nothing else. It is refused whole when anything
in it is odd: a name twice, a number where a text belongs, control or bidi characters, half of a
surrogate pair. Texts are brought to Unicode NFC. The vault adds ``external_id`` and ``file_name``.

The canonical form (RFC 8785, absent fields left out, at most 2 048 bytes) is what is sealed.

Errors name a known field and what is wrong with it, never a value and never an unknown name: both
are a caller's words.

Source: RFC 8259 (JSON), RFC 8785 (canonical form).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NoReturn

from core import canonical
from core.clock import to_text
from core.errors import IntegrityFailure, InvalidRequest
from vault import metadata_fields
from vault.errors import MetadataInvalid
from vault.metadata_fields import tidy_file_name
from vault.metadata_numbers import NumberMatcher, mask_contact, same_number, to_e164

__all__ = [
    "CANONICAL_MAX_BYTES",
    "RAW_MAX_BYTES",
    "Metadata",
    "NumberMatcher",
    "from_canonical",
    "mask_contact",
    "parse",
    "same_number",
    "tidy_file_name",
    "to_canonical",
    "to_e164",
]

RAW_MAX_BYTES: Final = 16_384
CANONICAL_MAX_BYTES: Final = 2_048
_SENDER_NAMES: Final = frozenset(
    {"started_at", "channels", "free", *metadata_fields.TEXTS, *metadata_fields.CHOICES}
)


@dataclass(frozen=True)
class Metadata:
    """One call's sealed metadata. Everything may be absent.

    Attributes:
        started_at: aware UTC, to the millisecond.
        direction, consent, notice: of the closed lists above.
        agent, contact_number, contact_reference: as given, in NFC.
        channels: who speaks on which channel, first channel first.
        free: pairs of name and value, sorted by name.
        external_id: the sender's own id. file_name: as tidied by ``tidy_file_name``.
    """

    started_at: datetime | None = None
    direction: str = "unknown"
    agent: str | None = None
    contact_number: str | None = None
    contact_reference: str | None = None
    channels: tuple[str, ...] = ()
    consent: str = "unknown"
    notice: str = "unknown"
    free: tuple[tuple[str, str], ...] = ()
    external_id: str | None = None
    file_name: str | None = None

    def __repr__(self) -> str:
        """Show nothing: a representation ends in logs."""
        return "Metadata(redacted)"


def parse(raw: bytes) -> Metadata:
    """Read a sender's JSON; b"" means that nothing was said.

    Raises:
        MetadataInvalid: anything in it is not as the module says; nothing is kept of it.
    """
    if not raw:
        return Metadata()
    members = _load(raw)
    if not members.keys() <= _SENDER_NAMES:
        raise MetadataInvalid(what="unknown-name")
    metadata = Metadata(
        started_at=metadata_fields.instant(members.get("started_at")),
        direction=metadata_fields.choice("direction", members.get("direction")),
        agent=metadata_fields.text("agent", members.get("agent")),
        contact_number=metadata_fields.text("contact_number", members.get("contact_number")),
        contact_reference=metadata_fields.text(
            "contact_reference", members.get("contact_reference")
        ),
        channels=metadata_fields.channels(members.get("channels")),
        consent=metadata_fields.choice("consent", members.get("consent")),
        notice=metadata_fields.choice("notice", members.get("notice")),
        free=metadata_fields.free(members.get("free")),
    )
    to_canonical(metadata)
    return metadata


def to_canonical(metadata: Metadata) -> bytes:
    """Return the bytes to seal: canonical JSON without the absent fields, at most 2 048 bytes.

    Raises:
        MetadataInvalid: it is longer, or ``external_id`` is not 1 to 200 bytes without controls.
    """
    metadata_fields.check_external_id(metadata.external_id)
    members: dict[str, canonical.Json] = {
        name: value
        for name in (*metadata_fields.TEXTS, "external_id", "file_name")
        if (value := getattr(metadata, name)) is not None
    }
    members |= {
        name: value
        for name in metadata_fields.CHOICES
        if (value := getattr(metadata, name)) != "unknown"
    }
    if metadata.started_at is not None:
        members["started_at"] = to_text(metadata.started_at)
    if metadata.channels:
        members["channels"] = list(metadata.channels)
    if metadata.free:
        members["free"] = dict(metadata.free)
    try:
        encoded = canonical.encode(members)
    except InvalidRequest as err:
        raise MetadataInvalid(what="characters") from err
    if len(encoded) > CANONICAL_MAX_BYTES:
        raise MetadataInvalid(what="too-large", max_bytes=CANONICAL_MAX_BYTES)
    return encoded


def from_canonical(raw: bytes) -> Metadata:
    """Read back what ``to_canonical`` wrote; the seal has already vouched for it.

    Raises:
        IntegrityFailure: the bytes are not of that form.
    """
    try:
        members: dict[str, Any] = json.loads(raw)
        started_at = members.pop("started_at", None)
        return Metadata(
            started_at=None if started_at is None else datetime.fromisoformat(started_at),
            channels=tuple(members.pop("channels", ())),
            free=tuple(sorted(members.pop("free", {}).items())),
            **members,
        )
    except (ValueError, TypeError, AttributeError) as err:
        raise IntegrityFailure(what="metadata") from err


def _load(raw: bytes) -> dict[str, object]:
    if len(raw) > RAW_MAX_BYTES:
        raise MetadataInvalid(what="too-large", max_bytes=RAW_MAX_BYTES)
    try:
        members = json.loads(
            raw.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse_number,
            parse_float=_refuse_number,
            parse_int=_refuse_number,
        )
    except (ValueError, RecursionError) as err:
        raise MetadataInvalid(what="not-json") from err
    if not isinstance(members, dict):
        raise MetadataInvalid(what="not-an-object")
    return members


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MetadataInvalid(what="duplicate-name")
    return members


def _refuse_number(spelling: str) -> NoReturn:
    del spelling  # 10^400 is never turned into a number
    raise MetadataInvalid(what="number")
