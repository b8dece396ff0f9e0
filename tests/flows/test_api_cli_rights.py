"""``oubliette grant``, ``approval``, ``account``, ``freeze``, ``review`` over a real service."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from api import cli
from tests.composition import Made, build_service, running_server

REASON = "Quality reviews of the spring"
Run = Callable[..., Result]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    made = build_service(tmp_path_factory.mktemp("rights"))
    with running_server(made.service):
        yield made


@pytest.fixture
def run(served: Made, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OUBLIETTE_URL", served.settings.public_url)

    def command(*words: str, role: str = "admin", who: str = "ada", code: int = 0) -> Result:
        monkeypatch.setenv("OUBLIETTE_TOKEN", served.token(role, subject=who))
        done = CliRunner().invoke(cli.app, list(words))
        assert done.exit_code == code, (words, done.output, done.exception)
        return done

    return command


def parsed(done: Result) -> Any:
    return json.loads(done.stdout)


def test_a_grant_from_its_first_day_to_its_last(run: Run) -> None:
    give = ("grant", "give", "--subject", "zoe", "--role", "quality-manager", "--campaign", "*")
    words = (*give, "--purpose", "quality-control", "--listens-max", "3", "--reason", REASON)
    run(*give, "--reason", REASON, code=1)  # no purpose
    given = parsed(run(*words, "--json"))
    assert (given["state"], given["listens_max"], given["campaign"]) == ("in-force", 3, "*")
    assert given["id"] in run("grant", "list", "--account", given["account"]).stdout
    confirm = ("grant", "confirm", given["id"], "--reason", REASON)
    assert "own-grant" in run(*confirm, code=1).stderr
    assert parsed(run(*confirm, "--json", who="eve"))["confirmed_at"]
    assert parsed(run("grant", "revoke", given["id"], "--json"))["state"] == "revoked"
    mine = ("grant", "list", "--account", given["account"])
    assert run(*mine, "--state", "in-force").stdout.strip() == "none"
    run("grant", "revoke", "grt_00000000000000000000000000", code=5)
    run(*words, "--account", "act_00000000000000000000000000", code=2)


def test_an_officers_grant_waits_for_a_second_person(run: Run) -> None:
    words = (
        "grant", "give", "--subject", "otto", "--role", "dpo", "--campaign", "*",
        "--purpose", "legal-claim", "--reason", REASON,
    )  # fmt: skip
    waiting = re.search(r"approval_id=(apr_\w+)", run(*words, code=4).stderr)
    assert waiting is not None
    shown = parsed(run("approval", "show", waiting[1], "--json", who="eve"))
    assert (shown["request"]["role"], shown["reason"]) == ("dpo", REASON)
    assert shown["request"].keys() >= {"account", "campaign", "purposes", "from", "until"}
    (listed,) = [
        one for one in run("approval", "list").stdout.splitlines() if one.startswith(waiting[1])
    ]
    assert f"about {shown['request']['account']}" in listed
    approve = ("approval", "approve", waiting[1], "--reason", "Named by the board")
    assert "account-unnamed" in run(*approve, who="eve", code=1).stderr
    named = (*approve, "--subject", "otto")
    run(*named, who="eve")
    run(*named, who="eve", code=1)  # decided already
    assert parsed(run(*words, "--json"))["approval_id"] == waiting[1]
    refused = re.search(r"approval_id=(apr_\w+)", run(*words, code=4).stderr)
    assert refused is not None
    assert refused[1] != waiting[1]  # good once
    run("approval", "refuse", refused[1], "--reason", "One is enough here", who="eve")
    assert "state=refused" in run(*words, code=4).stderr


def test_accounts_are_listed_suspended_and_resumed(run: Run, served: Made) -> None:
    run("campaign", "list", who="max", role="quality-manager")
    account = served.actor("quality-manager", subject="max").id
    listed = run("account", "list").stdout
    assert account in listed
    assert "admins: " in listed
    run("account", "suspend", account, "--reason", "Left the company today")
    refused = run("campaign", "list", who="max", role="quality-manager", code=4)
    assert "account-suspended" in refused.stderr
    assert "suspended (decided)" in run("account", "list").stdout
    run("account", "resume", account)
    run("campaign", "list", who="max", role="quality-manager")
    run("account", "suspend", "act_00000000000000000000000000", "--reason", REASON, code=5)


def test_a_freeze_and_its_end(run: Run) -> None:
    run("freeze", "set", "--reason", REASON, code=2)
    frozen = parsed(run("freeze", "set", "--everything", "--reason", REASON, "--json"))
    assert frozen["id"] in run("freeze", "list").stdout
    run("freeze", "lift", frozen["id"])
    assert frozen["id"] not in run("freeze", "list").stdout
    assert frozen["id"] in run("freeze", "list", "--lifted").stdout
    run("freeze", "set", "--subject", "mallory", "--reason", REASON)
    assert "account-suspended" in run("account", "list", who="mallory", code=4).stderr


def test_reviews_of_grants_and_of_reasons(run: Run) -> None:
    assert parsed(run("account", "review", "--json"))["quarter"][4:6] == "-Q"
    run("account", "review", code=1)
    assert "-Q" in run("account", "reviews").stdout
    assert run("review", "list", role="dpo").stdout.strip() == "none"
    judge = ("review", "judge", "rvw_00000000000000000000000000", "--verdict", "sound")
    run(*judge, "--reason", REASON, role="dpo", code=5)
