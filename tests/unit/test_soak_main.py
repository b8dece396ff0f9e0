"""``make soak`` where a server is missing: left out by name, or failed where all are required."""

from __future__ import annotations

import pytest

from tests.services.servers import MissingError, Servers
from tests.soak import __main__ as soak


@pytest.mark.parametrize(
    ("required", "code", "said"),
    [("", 0, "soak: left out, not here: radosgw"), ("all", 1, "missing and required: radosgw")],
)
def test_a_missing_server_is_named(
    required: str,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def missing(servers: Servers, *, minutes: float, seed: int) -> int:
        assert (minutes, seed) == (30.0, 7)
        raise MissingError("radosgw")

    monkeypatch.setattr(soak, "soak", missing)
    monkeypatch.setenv("OUBLIETTE_TEST_REQUIRE", required)
    monkeypatch.setenv("SOAK_MINUTES", "30")
    monkeypatch.setenv("SOAK_SEED", "7")
    assert soak.main() == code
    assert said in capsys.readouterr().out
