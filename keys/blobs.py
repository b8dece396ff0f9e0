"""The places that keep cover blobs, and the rule on how many must have one.

Losing the newest blob loses the controller. So a change waits for *enough places*: at least two,
all but one of three or more, and one that is off site when any is declared so. Reading takes
whichever place has the blob that the name says.

Does not protect against two places on one disk: the doctor looks at that.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar
from urllib.parse import unquote, urlsplit

from core.db import Database
from core.errors import IntegrityFailure, InvalidRequest
from keys.blob_database import DatabasePlace
from keys.blob_folder import FolderPlace
from keys.blob_name import check_name, name_of
from keys.errors import KeyUnavailable
from keys.ports import BlobPlace
from keys.wrap import read_blob_head

__all__ = ["DatabasePlace", "FolderPlace", "PlaceState", "Places", "name_of", "open_place"]

Said = Literal["held", "lacking", "damaged", "silent"]
_LOG: Final = logging.getLogger(__name__)
_LEAST: Final = 2

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class PlaceState:
    """What one place says about a blob.

    Attributes:
        state: it holds it whole, it lacks it, what it holds is damaged, or it does not answer.
    """

    uri: str
    offsite: bool
    state: Said


@dataclass(frozen=True)
class Digests:
    """The digests of a controller's blobs in all places, and the places that did not answer."""

    found: frozenset[bytes]
    silent: tuple[str, ...]


@dataclass(frozen=True)
class Places:
    """All the places of a vault, at least two."""

    places: Sequence[BlobPlace]

    def __post_init__(self) -> None:
        """Refuse fewer than two places, and one place twice."""
        uris = {place.uri for place in self.places}
        if len(uris) < _LEAST or len(uris) != len(self.places):
            raise InvalidRequest(what="blob-places")

    def put_enough(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        """Write a blob to every place and return once enough of them confirmed.

        Raises:
            KeyUnavailable: too few did.
            FsyncFailed: the disk of one did not confirm; no other place makes up for that.
        """

        def put(place: BlobPlace) -> bool:
            place.put_new(controller_id, sha256, blob)
            return True

        self._ask_enough(put)

    def read_enough(self, controller_id: str, sha256: bytes) -> bytes:
        """Return a blob once enough places have shown it whole, each through a fresh handle.

        Raises:
            KeyUnavailable: too few did.
        """
        blobs = self._ask_enough(lambda place: _read(place, controller_id, sha256))
        return blobs[0]

    def get_any(self, controller_id: str, sha256: bytes) -> bytes:
        """Return a blob from the first place that shows it whole.

        Raises:
            KeyUnavailable: none does.
        """
        for place in self.places:
            with contextlib.suppress(KeyUnavailable, IntegrityFailure):
                return _read(place, controller_id, sha256)
        raise KeyUnavailable(what="blob", controller_id=controller_id)

    def spread(self, controller_id: str, sha256: bytes) -> None:
        """Copy a blob to the places that lack it; raises like ``put_enough`` and ``get_any``."""
        states = [one.state for one in self.states(controller_id, sha256)]
        if any(state != "held" for state in states):
            self.put_enough(controller_id, sha256, self.get_any(controller_id, sha256))

    def states(self, controller_id: str, sha256: bytes) -> tuple[PlaceState, ...]:
        """Return what each place says about a blob, for the doctor and for ``spread``."""
        return tuple(
            PlaceState(place.uri, place.offsite, _state(place, controller_id, sha256))
            for place in self.places
        )

    def newest_epochs(self, controller_id: str) -> tuple[int | None, ...]:
        """Return the highest epoch whose blob lies whole in each place, None for none; for people.

        How old the newest copy in a place is, when the place lacks the current one.
        """
        return tuple(_newest_epoch(place, controller_id) for place in self.places)

    def digests(self, controller_id: str) -> Digests:
        """Return what lies in any place; a place that does not answer is named."""
        found: set[bytes] = set()
        silent: list[str] = []
        for place in self.places:
            try:
                found.update(place.list_blobs(controller_id))
            except KeyUnavailable:
                silent.append(place.uri)
        return Digests(frozenset(found), tuple(silent))

    def drop(self, controller_id: str, sha256: bytes) -> None:
        """Delete a blob that no key opens any more; a place that fails keeps noise."""
        for place in self.places:
            with contextlib.suppress(KeyUnavailable):
                place.delete_if_present(controller_id, sha256)

    def _ask_enough(self, ask: Callable[[BlobPlace], Answer]) -> list[Answer]:
        confirmed: list[BlobPlace] = []
        answers: list[Answer] = []
        failure: Exception | None = None
        for place in self.places:
            try:
                answers.append(ask(place))
                confirmed.append(place)
            except (KeyUnavailable, IntegrityFailure) as err:
                _LOG.warning("blob place failed: %s (%s)", place.uri, err)
                failure = err
        if not is_enough(self.places, confirmed):
            raise KeyUnavailable(what="blob-places", confirmed=len(confirmed)) from failure
        return answers


def is_enough(places: Sequence[BlobPlace], confirmed: Sequence[BlobPlace]) -> bool:
    """Tell whether the confirmed ones among ``places`` are enough (the module says the rule)."""
    needed = max(_LEAST, len(places) - 1)
    has_offsite = any(place.offsite for place in places)
    return len(confirmed) >= needed and (
        not has_offsite or any(place.offsite for place in confirmed)
    )


def open_place(uri: str, database: Database) -> BlobPlace:
    """Open ``file:///folder`` or ``database:``, with ``?offsite=1`` for a place off site.

    Raises:
        InvalidRequest: another scheme (object stores are joined in wiring), or unknown options.
        KeyUnavailable: the folder cannot be made.
    """
    parts = urlsplit(uri)
    if parts.query not in {"", "offsite=1"} or parts.netloc or parts.fragment:
        raise InvalidRequest(what="blob-place-uri")
    offsite = bool(parts.query)
    if parts.scheme == "database" and not parts.path:
        return DatabasePlace(database, offsite)
    if parts.scheme == "file" and parts.path not in {"", "/"}:
        return FolderPlace(Path(unquote(parts.path)), offsite)
    raise InvalidRequest(what="blob-place-uri")


def _read(place: BlobPlace, controller_id: str, sha256: bytes) -> bytes:
    return check_name(sha256, place.get(controller_id, sha256))


def _newest_epoch(place: BlobPlace, controller_id: str) -> int | None:
    epochs = []
    with contextlib.suppress(KeyUnavailable):
        for digest in place.list_blobs(controller_id):
            with contextlib.suppress(KeyUnavailable, IntegrityFailure):
                epochs.append(read_blob_head(_read(place, controller_id, digest)).epoch)
    return max(epochs, default=None)


def _state(place: BlobPlace, controller_id: str, sha256: bytes) -> Said:
    with contextlib.suppress(KeyUnavailable, IntegrityFailure):
        _read(place, controller_id, sha256)
        return "held"
    try:
        listed = place.list_blobs(controller_id)
    except KeyUnavailable:
        return "silent"
    return "damaged" if sha256 in listed else "lacking"
