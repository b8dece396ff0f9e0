"""Alert rules and dashboard name what a running service shows; each alert fires, and has a page."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
import yaml

from api.figures import Figures
from tests.composition import build_service, running_server
from tests.fakes.waiting import eventually

ROOT: Final = Path(__file__).parents[2]
RULES: Final = ROOT / "deploy" / "alerts.yaml"
DASHBOARD: Final = ROOT / "deploy" / "dashboard.json"
RUNBOOK: Final = ROOT / "docs" / "runbook.md"
NAME: Final = re.compile(r"\b(?:oubliette|process)_[a-z0-9_]+")
SERIES: Final = re.compile(r"^([a-z_]+)(?:\{(.*)\})? ", re.MULTILINE)
ENTRIES: Final = "oubliette_ledger_entries_total"
# alert -> series (values each minute) in which it must fire, and the minutes that this takes
PLANTED: Final[dict[str, tuple[dict[str, str], int]]] = {
    "OublietteLedgerAlarm": ({"oubliette_ledger_alarm": "1x5"}, 2),
    "OublietteRecordingsOverdue": ({"oubliette_recordings_overdue": "3x20"}, 15),
    "OublietteSweepLate": ({"oubliette_sweep_age_seconds": "11000x20"}, 10),
    "OublietteSweepBraked": ({"oubliette_sweep_brakes_engaged": "1x5"}, 3),
    "OublietteErasureWaits": ({"oubliette_erasure_oldest_seconds": "4000x20"}, 10),
    "OublietteErasureWaitsForKeys": (
        {'oubliette_erasures_waiting{state="waiting-key-provider"}': "1x20"},
        15,
    ),
    "OublietteKeyDestructionDue": ({"oubliette_key_destructions_due": "1x30"}, 20),
    "OublietteNoDeposits": ({f'{ENTRIES}{{type="recording-deposited"}}': "0+1x600 600x1200"}, 1600),
    "OublietteDepositsRefused": (
        {
            f'{ENTRIES}{{type="recording-deposited"}}': "0+10x90",
            f'{ENTRIES}{{type="deposit-refused"}}': "0+1x90",
        },
        80,
    ),
    "OublietteListenDenials": ({f'{ENTRIES}{{type="listen-denied"}}': "0+1x90"}, 60),
    "OublietteLedgerQueueLags": ({"oubliette_ledger_queue_lag_seconds": "6x5"}, 3),
    "OublietteLedgerUnpublished": ({"oubliette_ledger_unpublished_seconds": "61x9"}, 5),
    "OublietteAnchorBehind": ({"oubliette_anchor_behind_seconds": "7300x20"}, 10),
    "OublietteKeyLeaseShort": ({'oubliette_key_lease_left_seconds{instance="a"}': "3x5"}, 3),
    "OublietteKeyProviderDown": ({'oubliette_key_providers_down{instance="a"}': "1x20"}, 10),
    "OublietteBlobPlaceOld": ({'oubliette_blob_place_age_seconds{place="1"}': "4000x20"}, 10),
    "OublietteNoWorker": ({'oubliette_work_lease_age_seconds{work="upkeep"}': "90x9"}, 5),
    "OublietteAbsent": ({"something_else": "1x9"}, 5),
    "OublietteNotReady": ({'oubliette_ready_check_up{instance="a",check="store"}': "0x9"}, 5),
    "OublietteFaults": (
        {'oubliette_http_requests_total{route="/v1/x",status="500"}': "0+1x20"},
        15,
    ),
    "OublietteBusy": ({'oubliette_refusals_total{code="busy"}': "0+30x30"}, 20),
    "OublietteStoreErrors": ({'oubliette_store_errors_total{store="objects"}': "0+1x30"}, 20),
    "OublietteThreadFails": (
        {'oubliette_thread_failures_total{instance="a",thread="leases"}': "0+1x30"},
        20,
    ),
    "OublietteDatabasePoolFull": ({'oubliette_database_connections{instance="a"}': "31x9"}, 5),
    "OublietteLogLinesLost": ({'oubliette_log_lines_lost{instance="a"}': "4x9"}, 5),
    "OublietteFiguresOld": ({'oubliette_figures_age_seconds{instance="a"}': "130x9"}, 5),
    "OublietteObjectsPileUp": ({"oubliette_objects_to_delete": "10000x1500"}, 1460),
    "OublietteAttemptsPileUp": ({'oubliette_attempts{state="refused"}': "1001x200"}, 190),
    "OublietteDescriptorsShort": (
        {
            'process_open_fds{instance="a"}': "90x20",
            'process_max_fds{instance="a"}': "100x20",
            'oubliette_build_info{instance="a"}': "1x20",
        },
        10,
    ),
}
HEALTHY: Final = {
    "oubliette_ledger_alarm": "0x2000",
    "oubliette_recordings_overdue": "0x2000",
    "oubliette_sweep_age_seconds": "1800x2000",
    "oubliette_sweep_brakes_engaged": "0x2000",
    "oubliette_erasure_oldest_seconds": "0x2000",
    'oubliette_erasures_waiting{state="waiting-key-provider"}': "0x2000",
    "oubliette_key_destructions_due": "0x2000",
    f'{ENTRIES}{{type="recording-deposited"}}': "0+20x2000",
    f'{ENTRIES}{{type="deposit-refused"}}': "0x2000",
    f'{ENTRIES}{{type="listen-denied"}}': "0x2000",
    "oubliette_ledger_queue_lag_seconds": "0x2000",
    "oubliette_ledger_unpublished_seconds": "0x2000",
    "oubliette_anchor_behind_seconds": "600x2000",
    'oubliette_key_lease_left_seconds{instance="a"}': "20x2000",
    'oubliette_work_lease_age_seconds{work="upkeep"}': "5x2000",
    "oubliette_build_info": "1x2000",
    'oubliette_ready_check_up{instance="a",check="store"}': "1x2000",
    'oubliette_refusals_total{code="busy"}': "0x2000",
    'oubliette_store_errors_total{store="objects"}': "0x2000",
    'oubliette_database_connections{instance="a"}': "3x2000",
    'oubliette_figures_age_seconds{instance="a"}': "10x2000",
    "oubliette_objects_to_delete": "40x2000",
}


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def panels() -> list[dict[str, Any]]:
    found = json.loads(DASHBOARD.read_text())["panels"]
    return [one for one in found if one["type"] != "row"]


def expressions() -> list[str]:
    drawn = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [rule["expr"] for rule in alerts().values()] + drawn


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return every series name that a running service shows, with its label names."""
    made = build_service(tmp_path_factory.mktemp("shown"))
    # what nothing has happened to yet has no series: show that its figure exists
    made.service.metrics.refusals.labels("busy")
    made.service.metrics.thread_failures.labels("leases")
    made.service.metrics.blob_place_age_seconds.labels("0").set(0)
    with running_server(made.service) as address:
        made.service.work_lease.renew()
        Figures(made.service.ports.database, made.service.ledger, made.service.metrics).refresh()
        eventually(lambda: httpx2.get(f"{address}/readyz", timeout=60).is_success, "ready")
        text = httpx2.get(f"{address}/metrics", timeout=60).text
    found: dict[str, set[str]] = {}
    for name, labels in SERIES.findall(text):
        found.setdefault(name, set()).update(re.findall(r'([a-z_]+)="', labels))
    return found


def test_every_figure_in_rules_and_dashboard_is_shown_by_a_running_service(
    shown: dict[str, set[str]],
) -> None:
    named = {name for expression in expressions() for name in NAME.findall(expression)}
    assert named - set(shown) == set()
    assert len(named) > 25
    assert "oubliette_planted" not in shown


def test_every_label_they_go_by_exists(shown: dict[str, set[str]]) -> None:
    known = {label for labels in shown.values() for label in labels} | {"instance", "le"}
    for expression in expressions():
        for grouped in re.findall(r"\b(?:by|on) \(([a-z_, ]+)\)", expression):
            assert set(re.split(r", *", grouped)) <= known, expression
        for name, labels in re.findall(r"(oubliette_[a-z_]+)\{([^}]*)\}", expression):
            for label in re.findall(r"([a-z_]+)=~?\"", labels):
                assert label in shown[name] | {"instance"}, expression


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(alerts())
    for name, rule in alerts().items():
        assert rule["labels"]["severity"] in {"page", "ticket"}, name
        assert rule["annotations"]["summary"], name


def test_the_runbook_names_commands_figures_and_settings_that_exist(
    shown: dict[str, set[str]],
) -> None:
    text = RUNBOOK.read_text()
    assert set(NAME.findall(text)) <= set(shown)
    manual = (ROOT / "docs" / "cli.md").read_text()
    for words in re.findall(r"oubliette ((?:[a-z-]+ ?)+)", text):
        command = words.split()
        assert f"## `oubliette {command[0]}" in manual, words
    settings = (ROOT / "docs" / "configuration.md").read_text()
    for name in re.findall(r"`([A-Z]+_[A-Z_]+)`", text):
        assert name in settings, name


def test_every_panel_says_what_it_shows_and_none_lies_on_another() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        assert panel["title"] and panel["description"].endswith("."), panel["title"]  # noqa: PT018
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.needs_promtool
def test_prometheus_reads_the_rules_and_every_expression_of_the_dashboard(
    promtool: str, tmp_path: Path
) -> None:
    def check(file: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [promtool, "check", "rules", file], capture_output=True, text=True, check=False
        )

    assert check(RULES).returncode == 0, check(RULES).stdout + check(RULES).stderr
    drawn = [target["expr"] for panel in panels() for target in panel["targets"]]
    records = [
        {
            "record": f"drawn_{number}",
            "expr": one.replace("$__rate_interval", "5m").replace("$instance", ".*"),
        }
        for number, one in enumerate(drawn)
    ]
    file = tmp_path / "drawn.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": records}]}))
    done = check(file)
    assert done.returncode == 0, done.stdout + done.stderr
    records[0]["expr"] = "max(oubliette_x"
    file.write_text(yaml.safe_dump({"groups": [{"name": "drawn", "rules": records}]}))
    assert check(file).returncode != 0  # it does read them


@pytest.mark.needs_promtool
def test_every_alert_fires_on_its_fault_and_none_on_a_healthy_vault(
    promtool: str, tmp_path: Path
) -> None:
    assert set(PLANTED) == set(alerts())
    cases = [_case(name, *planted) for name, planted in PLANTED.items()]
    silent = _case("", HEALTHY, 1600)
    silent["promql_expr_test"] = [
        {"expr": 'count(ALERTS{alertstate="firing"})', "eval_time": "1600m", "exp_samples": []}
    ]
    file = tmp_path / "fire.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [*cases, silent]}))
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def _case(name: str, series: dict[str, str], minutes: int) -> dict[str, Any]:
    values = [{"series": one, "values": _spelt(told)} for one, told in series.items()]
    case: dict[str, Any] = {"interval": "1m", "input_series": values}
    if name:
        count = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
        case["promql_expr_test"] = [
            {
                "expr": count,
                "eval_time": f"{minutes}m",
                "exp_samples": [{"labels": "{}", "value": 1}],
            }
        ]
    return case


def _spelt(told: str) -> str:
    """Write ``3x20`` as promtool wants it: ``3+0x20``."""
    return " ".join(one if "+" in one else one.replace("x", "+0x") for one in told.split())
