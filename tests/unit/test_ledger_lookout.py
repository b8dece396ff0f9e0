"""A look at the queue serves for a second, and never says less than a fresh look would."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.clock import FakeClock
from vault.ledger.lookout import LOOK_EVERY_S, Lookout

ENOUGH_MS = 10_000


@given(
    steps=st.lists(
        st.tuples(st.sampled_from((0.0, 0.001, 0.5, LOOK_EVERY_S, 1.1, 30.0)), st.booleans()),
        max_size=30,
    )
)
def test_what_is_said_is_never_less_than_what_a_look_would_say(
    steps: list[tuple[float, bool]],
) -> None:
    clock, lookout = FakeClock(), Lookout()
    oldest_s: float | None = None

    def lag_ms() -> int:
        return 0 if oldest_s is None else round((clock.boottime - oldest_s) * 1_000)

    for passed_s, sequenced in steps:
        oldest_s = clock.boottime if sequenced or oldest_s is None else oldest_s
        clock.advance(passed_s)
        said = lookout.at_most_ms(clock, lag_ms, enough_ms=ENOUGH_MS)
        assert said >= lag_ms()
        assert said <= ENOUGH_MS or said == lag_ms()


def test_one_look_serves_a_second_and_not_longer() -> None:
    clock, lookout = FakeClock(), Lookout()
    looks: list[float] = []

    def look() -> int:
        looks.append(clock.boottime)
        return 0

    for _ in range(5):
        lookout.at_most_ms(clock, look, enough_ms=ENOUGH_MS)
    assert len(looks) == 1
    clock.advance(LOOK_EVERY_S + 0.01)
    lookout.at_most_ms(clock, look, enough_ms=ENOUGH_MS)
    assert len(looks) == 2


def test_a_look_above_what_is_borne_serves_nobody_else() -> None:
    clock, lookout = FakeClock(), Lookout()
    lags = iter((ENOUGH_MS + 1, 0))
    assert lookout.at_most_ms(clock, lambda: next(lags), enough_ms=ENOUGH_MS) > ENOUGH_MS
    assert lookout.at_most_ms(clock, lambda: next(lags), enough_ms=ENOUGH_MS) == 0
