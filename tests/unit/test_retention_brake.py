from __future__ import annotations

import pytest

from core.errors import InvalidRequest
from retention.brake import Brake


@pytest.mark.parametrize(
    ("due", "living", "forecast", "trips"),
    [
        (0, 0, 0, False),
        (100, 1_000, 0, False),  # at the floor, not above it
        (101, 1_000, 0, True),
        (101, 1_000, 101, False),  # forecast
        (102, 1_000, 101, True),
        (101, 2_020, 0, False),  # exactly the share
        (102, 2_020, 0, True),
        (50, 50, 0, False),  # a small campaign may end at once
        (5_000, 100_000, 0, False),
        (5_001, 100_000, 0, True),
    ],
)
def test_trips_above_floor_share_and_forecast_together(
    due: int, living: int, forecast: int, trips: bool
) -> None:
    assert Brake(100, 0.05).trips(due=due, living=living, forecast=forecast) is trips


@pytest.mark.parametrize(("least", "share"), [(-1, 0.05), (1, -0.1), (1, 1.1)])
def test_refuses_settings_that_cannot_be_meant(least: int, share: float) -> None:
    with pytest.raises(InvalidRequest):
        Brake(least, share)
