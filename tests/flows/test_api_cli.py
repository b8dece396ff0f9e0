"""The command line against a running service: what it prints, and with which code it ends."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from api import cli
from api.observability import configure_lines
from tests.composition import CONTROLLER, Made, build_service, running_server
from tests.fakes.speech import wav

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
REASON = "Monthly quality review of this team"
Result = Any  # typer carries a click of its own
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = build_service(tmp_path_factory.mktemp("cli"))
    with running_server(made.service):
        yield made


@pytest.fixture
def run(served: Made, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs ``oubliette WORDS`` as somebody with ``roles``."""
    monkeypatch.setenv("OUBLIETTE_URL", served.settings.public_url)

    def command(
        *words: str,
        roles: str = "",
        code: int = 0,
        typed: str = "",
        subject: str = "somebody",
    ) -> Result:
        hears = words[0] in {"listen", "search"}  # whoever is an admin does neither
        roles = roles or ("dpo quality-manager" if hears else "admin dpo quality-manager")
        monkeypatch.setenv("OUBLIETTE_TOKEN", served.token(*roles.split(), subject=subject))
        done = CliRunner().invoke(cli.app, list(words), input=typed)
        assert done.exit_code == code, (words, done.output, done.exception)
        return done

    return command


@pytest.fixture
def campaign(run: Run, request: pytest.FixtureRequest) -> str:
    """Return the slug of a fresh open campaign."""
    slug = re.sub(r"[^a-z0-9-]+", "-", request.node.name.lower())[-40:].strip("-")
    run("campaign", "create", slug, "--name", "Winter")
    run(
        "campaign", "policy", slug, "--retention", "P6M", "--legal-basis", "legitimate-interests",
        "--balancing", "Six months let one quarter be compared with the one before it.",
        "--purpose", "quality-control", "--country", "FR",
    )  # fmt: skip
    run("campaign", "open", slug)
    return slug


def parsed(done: Result) -> Any:
    return json.loads(done.stdout)


def test_campaigns(run: Run, campaign: str) -> None:
    assert f"{campaign}  open  Winter" in run("campaign", "list").stdout
    shown = parsed(run("campaign", "show", campaign, "--json"))
    assert shown["policy"]["retention"] == "P6M"
    assert "policy.retention: P6M" in run("campaign", "show", campaign).stdout
    counts = parsed(run("campaign", "simulate", campaign, "P1D", "--json"))
    assert counts["stored"] == 0
    key = parsed(run("campaign", "key", campaign, "--label", "pbx", "--json"))
    assert key["secret"].startswith("okd_")
    assert key["secret"] not in run("campaign", "keys", campaign).stdout
    run("campaign", "revoke-key", campaign, key["id"])
    assert "revoked" in run("campaign", "keys", campaign).stdout
    address = parsed(run("campaign", "upload-url", campaign, "call-1", "--json"))["url"]
    assert "/recordings/call-1?token=oku_" in address
    assert parsed(run("campaign", "close", campaign, "--json"))["state"] == "closed"


def archive(folder: Path) -> Path:
    (folder / "march").mkdir(parents=True)
    for number in range(3):
        (folder / "march" / f"call {number}.wav").write_bytes(wav(0.4, 5 + number))
    (folder / "march" / "call 1.wav.json").write_text('{"contact_number": "+33 1 99 00 12 34"}')
    (folder / "page.wav").write_bytes(b"<!doctype html><html></html>")
    (folder / ".hidden").write_bytes(b"x")
    return folder


def test_an_archive_is_imported_and_resumed(run: Run, campaign: str, tmp_path: Path) -> None:
    folder, manifest = archive(tmp_path / "archive"), tmp_path / "manifest.jsonl"
    words = ["deposit", str(folder), "--recursive", "--campaign", campaign]
    words += ["--manifest", str(manifest), "--json"]
    first = parsed(run(*words, roles="intake", code=6))
    assert first == {"files": 4, "sent": 3, "same": 0, "skipped": 0, "refused": 1}
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert {line["outcome"] for line in lines} == {"stored", "unsupported-audio"}
    (folder / "page.wav").unlink()
    again = parsed(run(*words, roles="intake"))
    assert again == {"files": 3, "sent": 0, "same": 0, "skipped": 3, "refused": 0}
    stored = [line for line in manifest.read_text().splitlines() if '"stored"' in line]
    manifest.write_text("\n".join(stored)[:-40])  # a crash cut the last line short
    assert parsed(run(*words, roles="intake"))["skipped"] == 2
    assert parsed(run(*words, roles="intake"))["skipped"] == 3
    manifest.unlink()
    assert parsed(run(*words, roles="intake"))["same"] == 3
    (folder / "march" / "call 0.wav").write_bytes(wav(0.4, 9))
    changed = parsed(run(*words, roles="intake", code=6))
    assert (changed["skipped"], changed["refused"]) == (2, 1)  # another body under the same id


def deposited(run: Run, campaign: str, tmp_path: Path, pitch: int = 5, **said: str) -> str:
    path = tmp_path / f"call-{pitch}.wav"
    path.write_bytes(wav(0.5, pitch))
    words = ("deposit", str(path), "--campaign", campaign, "--metadata", json.dumps(said), "--json")
    answer: dict[str, str] = parsed(run(*words, roles="intake"))
    return answer["id"]


def test_listen_writes_the_sound_and_closes_the_listen(
    run: Run, campaign: str, tmp_path: Path
) -> None:
    recording = deposited(run, campaign, tmp_path)
    out = tmp_path / "heard.wav"
    words = ("listen", recording, "--purpose", "quality-control", "--reason", REASON)
    run(*words, "--output", str(out))
    assert out.read_bytes() == wav(0.5, 5)
    assert out.stat().st_mode & 0o077 == 0
    run(*words, "--output", str(out), code=2)  # never over a file that is there
    assert run(*words).stdout_bytes == wav(0.5, 5)
    refused = run("listen", recording, "--purpose", "quality-control", "--reason", "why", code=1)
    assert "reason-required" in refused.stderr
    assert refused.stdout_bytes == b""


def test_the_ledger_is_read_exported_and_given_out(
    run: Run, campaign: str, tmp_path: Path, served: Made
) -> None:
    recording = deposited(run, campaign, tmp_path)
    words = ("--purpose", "quality-control", "--reason", "Monthly quality review")
    run("listen", recording, *words, "--output", str(tmp_path / "heard"))
    asked = ("audit", "--campaign", campaign, "--type", "listen-granted")
    [entry] = parsed(run(*asked, "--json"))["items"]
    assert (entry["recording_id"], entry["reason"]) == (recording, "Monthly quality review")
    assert recording in run(*asked).stdout
    exported = run(*asked, "--export", "csv").stdout
    assert '"Monthly quality review"' in exported
    run(*asked, "--export", "xls", code=2)
    file = tmp_path / "receipts"
    run("receipts", recording, "--output", str(file))
    key = served.service.ports.signer.vkey
    assert recording in run("verify-receipts", str(file), "--key", key).stdout
    file.write_text(file.read_text().replace("quality-control", "training", 1))
    run("verify-receipts", str(file), "--key", key, code=1)


def test_search_finds_a_person(run: Run, campaign: str, tmp_path: Path) -> None:
    recording = deposited(run, campaign, tmp_path, contact_number="+33 1 99 00 56 78")
    found = run(
        "search", "--number", "01 99 00 56 78", "--purpose", "complaint", "--reason", REASON
    )
    assert recording in found.stdout
    within = run(
        "search", "--number", "01 99 00 56 78", "--campaign", campaign, "--from",
        "2020-01-01T00:00:00Z", "--to", "2099-01-01T00:00:00Z", "--purpose", "quality-control",
        "--reason", REASON, "--json",
    )  # fmt: skip
    shown = [(one["id"], one["contact"]) for one in parsed(within)["items"]]
    assert shown == [(recording, "••••78")]  # the contact stays masked
    assert "99005678" not in within.stdout.replace(" ", "")
    missed = run("search", "--number", "+33199009999", "--purpose", "complaint", "--reason", REASON)
    assert missed.stdout == "nothing found\n"


def test_a_number_need_not_be_an_argument(run: Run, campaign: str, tmp_path: Path) -> None:
    recording = deposited(run, campaign, tmp_path, contact_number="+33 1 99 00 43 21")
    typed = "01 99 00 43 21\n"
    why = ("--reason", REASON)
    found = run("search", "--number", "-", "--purpose", "complaint", *why, typed=typed)
    assert recording in found.stdout
    held = parsed(run("hold", "place", "--number", "-", *why, "--json", typed=typed))
    assert held["recording_ids"] == [recording]
    plan = ("erase", "plan", "--number", "-", "--legal-ground", "objection")
    assert recording in run(*plan, *why, typed=typed).stdout
    assert run(*plan, *why, code=2).stdout == ""


def test_hold_erase_and_certificate(run: Run, campaign: str, tmp_path: Path) -> None:
    recording = deposited(run, campaign, tmp_path)
    held = parsed(run("hold", "place", "--recording", recording, "--reason", REASON, "--json"))
    assert held["id"] in run("hold", "list").stdout
    plan = ("erase", "plan", "--recording", recording, "--legal-ground", "objection")
    protected = run(*plan, "--reason", REASON)
    assert "goes: 0  protected: 1" in protected.stdout
    alone = run("hold", "lift", held["id"], code=4).stderr
    approval = re.search(r"approval_id=(apr_\w+)", alone)
    assert approval is not None
    words = ("approval", "approve", approval[1], "--reason", "Seen the letter of counsel")
    assert "own-request" in run(*words, code=1).stderr
    run(*words, roles="admin", subject="another")
    run("hold", "lift", held["id"])
    assert "lifted" in run("hold", "list", "--lifted").stdout
    made = parsed(run(*plan, "--reason", REASON, "--json"))
    assert made["id"] in run("erase", "list").stdout
    run("erase", "execute", made["id"], "--digest", "0" * 64, code=1)
    done = parsed(run("erase", "execute", made["id"], "--digest", made["plan_digest"], "--json"))
    assert (done["state"], done["planned_count"]) == ("done", 1)
    certificate = tmp_path / "certificate.txt"
    run("erase", "certificate", made["id"], "--output", str(certificate))
    run("erase", "certificate", made["id"], "--output", str(certificate), code=2)
    assert run("erase", "certificate", made["id"]).stdout == certificate.read_text()
    run("listen", recording, "--purpose", "quality-control", "--reason", REASON, code=1)


@pytest.mark.parametrize(
    ("words", "roles", "code"),
    [
        (("campaign", "show", "nowhere"), "dpo", 5),
        (("campaign", "create", "x", "--name", "X"), "dpo", 4),
        (("campaign", "create", "X!", "--name", "X"), "admin", 1),
        (("erase", "show", "era_nothing"), "dpo", 5),
        (("erase", "plan", "--legal-ground", "objection", "--reason", REASON), "dpo", 2),
        (("hold", "place", "--reason", REASON), "dpo", 2),
        (("deposit", "/nowhere.wav", "--campaign", "x"), "intake", 2),
        (("deposit", "/", "--recursive", "--campaign", "x"), "intake", 2),
        (("nonsense",), "dpo", 2),
    ],
)
def test_exit_codes(run: Run, words: tuple[str, ...], roles: str, code: int) -> None:
    done = run(*words, roles=roles, code=code)
    assert done.stdout == ""
    assert done.stderr


def test_no_token_and_no_service(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUBLIETTE_URL", "http://127.0.0.1:9")
    assert "no answer" in run("campaign", "list", code=3).stderr
    monkeypatch.delenv("OUBLIETTE_TOKEN")
    assert CliRunner().invoke(cli.app, ["campaign", "list"]).exit_code == 4


def test_a_refusal_cannot_drive_a_terminal() -> None:
    from api.cli_output import _printable

    assert _printable("a\x1b[2Jb\nc") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"


@pytest.fixture
def quiet() -> Iterator[None]:
    """Put logging back: an operator's command takes it over for its process."""
    root = logging.getLogger()
    before = list(root.handlers)
    yield
    root.handlers = before
    configure_lines(io.StringIO())


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: None) -> Run:
    """Return a function that runs an operator's command on a vault of its own."""
    for name in [name for name in os.environ if name.startswith("OUBLIETTE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OUBLIETTE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("OUBLIETTE_RECORDING_MAX_BYTES", "64 MiB")

    def command(*words: str, code: int = 0) -> Result:
        done = CliRunner().invoke(cli.app, list(words))
        assert done.exit_code == code, (words, done.output, done.exception)
        return done

    return command


def test_an_auditor_verifies_over_the_network_and_the_token_goes_to_the_vault_alone(
    served: Made, run: Run, campaign: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del campaign
    address, key = f"{served.settings.public_url}/v1/ledger", served.service.ports.signer.vkey
    report = run("verify", "--from", address, "--key", key, roles="auditor")
    assert "entries: " in report.stdout
    run("verify", "--from", address, "--key", key, roles="quality-manager", code=3)
    monkeypatch.setenv("OUBLIETTE_URL", f"{served.settings.public_url}0")
    refused = run("verify", "--from", address, "--key", key, roles="auditor", code=3)
    assert "status=401" in refused.stderr


def test_an_operators_first_hour(own: Run, tmp_path: Path) -> None:
    assert "not-initialised" in own("doctor", code=1).stdout
    own("verify", code=3)
    made = parsed(own("init", "--controller", CONTROLLER, "--name", "Acme", "--json"))
    assert made["vkey"].startswith(made["origin"] + "+")
    assert "already-initialised" in own("init", "--controller", CONTROLLER, code=1).stderr
    assert (
        made["controller_id"]
        != parsed(own("init", "--controller", "two", "--json"))["controller_id"]
    )
    said = {"before": "current", "now": "current", "walls": "none"}
    assert parsed(own("migrate", "--json")) == said
    own("token", "--role", "root", code=2)
    own("token", "--role", "dpo", code=1)  # two controllers: name one
    token = own("token", "--role", "dpo", "--controller", CONTROLLER).stdout.strip()
    assert token.count(".") == 2
    report = parsed(own("verify", "--json"))
    assert report["origin"] == made["origin"]
    outside = own("verify", "--from", str(tmp_path / "data" / "ledger"), "--key", made["vkey"])
    assert f"entries: {report['entries']}" in outside.stdout
    line = own("anchor-line").stdout
    assert line.startswith(made["origin"] + " ")
    own("verify", "--known", line)
    (tmp_path / "kept").write_text(line)
    own("verify", "--known", str(tmp_path / "kept"))
    written_down = line.rpartition(" ")[0]
    own("verify", "--known", written_down.replace(" ", " 9", 1), code=1)
    assert parsed(own("sweep", "--json"))["overdue"] == 0
    findings = parsed(own("doctor", "--json"))["findings"]
    assert "fail" not in {one["verdict"] for one in findings}
    assert parsed(own("restore", "--json"))["returned_rows"] == 0


def test_a_ledger_with_one_wrong_byte_does_not_verify(own: Run, tmp_path: Path) -> None:
    own("init", "--controller", CONTROLLER)
    own("verify")
    bundle = next((tmp_path / "data" / "ledger" / "tile" / "entries").rglob("*.p/*"))
    content = bytearray(bundle.read_bytes())
    content[40] ^= 1
    bundle.write_bytes(bytes(content))
    assert "ledger-corrupt" in own("verify", code=1).stderr


def test_wrong_settings_end_with_code_two(own: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUBLIETTE_SWEEP_BRAKE_SHAER", "0.5")
    assert "OUBLIETTE_SWEEP_BRAKE_SHAER" in own("migrate", code=2).stderr
    monkeypatch.delenv("OUBLIETTE_SWEEP_BRAKE_SHAER")
    monkeypatch.setenv("OUBLIETTE_MODE", "production")
    assert "OIDC_ISSUER" in own("serve", code=2).stderr


def test_the_manual_is_the_programs_own_help() -> None:
    manual = written_manual()
    if os.environ.get("OUBLIETTE_TEST_WRITE_DOCS"):
        DOCS.write_text(manual)
    assert DOCS.read_text() == manual, "run this test with OUBLIETTE_TEST_WRITE_DOCS=1"


def written_manual() -> str:
    """Return every command's help as one Markdown page."""
    group = typer.main.get_command(cli.app)
    parts = [
        "# The command line\n",
        "Made from the program's own help; a test compares the two.\n",
        "`OUBLIETTE_URL` and `OUBLIETTE_TOKEN` say where the service is and who asks; the",
        "commands on the settings read `OUBLIETTE_*` (see `configuration.md`).\n",
    ]
    for path, command in sorted(commands(group, ("oubliette",))):
        context = typer.Context(command, info_name=" ".join(path), terminal_width=88)
        text = re.sub(r"[ \t]+\n", "\n", command.get_help(context))
        parts.append(f"## `{' '.join(path)}`\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def commands(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, below in getattr(command, "commands", {}).items():
        yield from commands(below, (*path, name))
