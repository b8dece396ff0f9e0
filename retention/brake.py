"""The brake: a run of the sweep that would erase far more than expected stops and asks. Pure.

A retention typed wrong must not shred a campaign overnight. The brake trips when a campaign has

- more recordings due than ``least``, and
- more than ``share`` of its living recordings, and
- more than the run before forecast (0 when there was none).

The forecast of a run counts what it leaves undone and what falls due before the next one, under
the policy of that moment: growth that comes by itself never trips, a changed policy does.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import InvalidRequest


@dataclass(frozen=True)
class Brake:
    """The two settings. ``share`` is a part of one, 0 to 1."""

    least: int = 100
    share: float = 0.05

    def __post_init__(self) -> None:
        """Refuse settings that would never or always trip by mistake."""
        if self.least < 0 or not 0 <= self.share <= 1:
            raise InvalidRequest(what="sweep-brake")

    def trips(self, *, due: int, living: int, forecast: int) -> bool:
        """Tell whether a person must look first.

        Args:
            due: recordings that the run would erase.
            living: of the campaign, the due included.
            forecast: what the run before expected this one to find.
        """
        return due > max(self.least, self.share * living) and due > forecast
