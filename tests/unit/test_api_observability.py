"""Lines keep only what they are allowed to, from us and from libraries."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.metrics import Metrics
from api.observability import FIELDS, ForeignLines, configure_lines, fault_fields, log, request_id
from core.errors import DatabaseUnavailable
from vault.errors import LedgerUnavailable

DOCS = Path(__file__).parents[2] / "docs" / "logs.md"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_lines(stream)
    yield stream
    configure_lines(io.StringIO())


def read(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_field_nobody_listed_is_dropped(lines: io.StringIO) -> None:
    log().info("request", route="/v1/x", number="+33612345678", token="secret", query="a=b")
    (line,) = read(lines)
    assert line["route"] == "/v1/x"
    assert set(line) == {"event", "level", "at", "route"}


def test_lines_of_one_request_share_its_id(lines: io.StringIO) -> None:
    token = request_id.set("req_1")
    log().warning("check-failed", checks=["store"])
    request_id.reset(token)
    log().info("stopped")
    first, second = read(lines)
    assert first["request_id"] == "req_1"
    assert "request_id" not in second


def foreign(name: str, message: str, *args: object, **more: Any) -> None:
    logger = logging.getLogger(name)
    record = logger.makeRecord(
        name, logging.WARNING, "f", 1, message, args, more.get("exc"), extra=more.get("extra")
    )
    ForeignLines().emit(record)


def test_a_librarys_arguments_stay_out(lines: io.StringIO) -> None:
    foreign("uvicorn.error", "request from %s failed: %s", "10.0.0.9", "okd_secret")
    (line,) = read(lines)
    assert line["event"] == "request from %s failed: %s"
    assert "10.0.0.9" not in lines.getvalue()


def test_our_packages_may_name_codes_and_ids(lines: io.StringIO) -> None:
    foreign("keys.keyring", "lease not renewed: %s (%s)", "ctl_1", DatabaseUnavailable())
    foreign("vault.scan", "row of %s", "+33 6 12 34 56 78")
    foreign("vault.scan", "row of %s", "0612345678")
    foreign("oubliette.stream", "stream cut", extra={"code": "lease-lost", "number": "06"})
    texts = [line["event"] for line in read(lines)]
    assert texts[0].startswith("lease not renewed: ctl_1 (not-ready")
    assert texts[1:3] == ["row of %s", "row of %s"]
    assert read(lines)[3]["code"] == "lease-lost"
    assert "number" not in lines.getvalue()


def fail_for_a_caller() -> None:
    try:
        raise OSError("cannot reach +33612345678")  # noqa: TRY301 - its message must not come out
    except OSError as err:
        raise ValueError("secret okd_x") from err


def test_an_exception_is_told_by_type_and_place_only(lines: io.StringIO) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        fail_for_a_caller()
    err = caught.value
    fields = fault_fields(err)
    foreign("sqlalchemy", "broke", exc=(type(err), err, err.__traceback__))
    assert fields["error_type"] == "ValueError"
    places = fields["places"]
    assert isinstance(places, list)
    assert "OSError" in places
    assert all("secret" not in place and "0612" not in place for place in places)
    assert "secret" not in lines.getvalue()
    ours = fault_fields(LedgerUnavailable(lag_ms=12_000))
    assert ours["code"] == "ledger-unavailable"
    assert ours["facts"] == {"lag_ms": "12000"}


def test_no_figure_has_a_label_that_could_name_someone() -> None:
    allowed = {"method", "route", "status", "code", "thread", "check", "kind", "le"}
    allowed |= {"type", "state", "store", "work", "place", "version"}
    metrics = Metrics()
    metrics.requests.labels("GET", "/v1/x", "200").inc()
    names = set()
    for family in metrics.registry.collect():
        names.add(family.name)
        for sample in family.samples:
            assert set(sample.labels) <= allowed, sample
    assert all(name.startswith(("oubliette_", "process_")) for name in names)
    assert b"oubliette_http_requests_total" in metrics.text()


def test_the_page_of_logs_lists_every_field_and_figure() -> None:
    page = DOCS.read_text()
    fields = page.partition("## Fields")[2].partition("## ")[0]
    assert set(re.findall(r"^\| `([a-z_]+)`", fields, re.MULTILINE)) == FIELDS
    figures = page.partition("## Figures")[2]
    known = {
        family.name
        for family in Metrics().registry.collect()
        if not family.name.startswith("process_")  # every Prometheus client's own
    }
    assert set(re.findall(r"^\| `([a-z_]+)`", figures, re.MULTILINE)) == known
