"""Every error has a status, a place in the documentation, and a test that knows it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from api.errors import (
    InternalFailure,
    MethodNotAllowed,
    RateLimited,
    RoleRequired,
    StepUpRequired,
    Unauthenticated,
)
from api.openapi_text import leaves
from api.problems import MEDIA_TYPE, RETRY_AFTER_S, STATUS, problem_body, problem_response
from core.errors import DatabaseUnavailable, IntegrityFailure, OublietteError, SchemaMismatch
from keys.errors import KeysLost, PointerMoved
from retention.errors import BrakeEngaged
from vault.errors import (
    ApprovalRequired,
    DepositInProgress,
    ObjectExists,
    RangeNotSatisfiable,
    RecordingErased,
)

ROOT = Path(__file__).parents[2]
LEAVES = sorted(set(leaves()), key=lambda one: (one.code, one.__name__))
SECTION = re.compile(
    r"^## `([a-z-]+)`\n\n(\d{3}) · (.+)\n\nWhen: .+\n\nWhat to do: .+\n", re.MULTILINE
)


@pytest.mark.parametrize("leaf", LEAVES, ids=[one.__name__ for one in LEAVES])
def test_each_leaf_has_a_status_and_is_answered(leaf: type[OublietteError]) -> None:
    with pytest.raises(leaf) as caught:
        raise leaf(recording_id="rec_x")
    answer = problem_response(caught.value)
    assert answer.status_code == STATUS[leaf.code]
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.headers["cache-control"] == "no-store"
    body = json.loads(bytes(answer.body))
    assert (body["code"], body["title"], body["status"]) == (
        leaf.code,
        leaf.title,
        answer.status_code,
    )
    assert ("retry-after" in answer.headers) == (leaf.retryable or answer.status_code == 503)
    assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", leaf.code)
    assert leaf.title.endswith(".")


def test_the_table_names_no_code_that_is_gone() -> None:
    assert set(STATUS) == {leaf.code for leaf in LEAVES}


def test_one_code_means_one_thing() -> None:
    meanings: dict[str, set[tuple[str, bool]]] = {}
    for leaf in LEAVES:
        meanings.setdefault(leaf.code, set()).add((leaf.title, leaf.retryable))
    assert [code for code, found in meanings.items() if len(found) > 1] == []


def test_the_page_of_errors_is_the_programs_own() -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    written = {code: (int(status), title) for code, status, title in SECTION.findall(page)}
    assert written == {leaf.code: (STATUS[leaf.code], leaf.title) for leaf in LEAVES}
    assert list(written) == sorted(written)
    assert page.count("\n## ") == len(written)


def test_each_leaf_is_known_to_a_test() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path != Path(__file__)]
    text = "\n".join(path.read_text() for path in tests) + Path(__file__).read_text()
    unknown = [
        leaf.__name__
        for leaf in LEAVES
        if not re.search(rf"\b{leaf.__name__}\b|[\"'`]{leaf.code}[\"'`]", text)
    ]
    assert unknown == []


def test_facts_stand_beside_the_members_and_never_replace_them() -> None:
    at = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    body = problem_body(RecordingErased(status="x", code="y", inaccessible_at=at, items=["a"]))
    assert body["status"] == 410
    assert body["code"] == "recording-erased"
    assert body["inaccessible_at"] == "2026-03-02T09:30:00.000Z"
    assert body["items"] == ["a"]


@pytest.mark.parametrize(
    "error",
    [IntegrityFailure(what="x"), InternalFailure(why="x"), KeysLost(a="b"), ObjectExists(key="k"),
     SchemaMismatch(state="older")],
)  # fmt: skip
def test_a_fault_of_the_service_explains_itself_to_the_log_only(error: OublietteError) -> None:
    assert set(problem_body(error)) == {"type", "title", "status", "code"}


def test_headers_that_go_with_a_refusal() -> None:
    asked = problem_response(Unauthenticated(reason="missing"))
    assert asked.headers["www-authenticate"] == 'Bearer realm="oubliette"'
    bad = problem_response(Unauthenticated(reason="expired"))
    assert bad.headers["www-authenticate"].endswith('error="invalid_token"')
    step = problem_response(StepUpRequired(acr_values="urn:mfa", max_age_s=300))
    assert (
        'error="insufficient_user_authentication", acr_values="urn:mfa", max_age=300'
        in (step.headers["www-authenticate"])
    )
    beyond = problem_response(RangeNotSatisfiable(length_bytes=480_044))
    assert beyond.headers["content-range"] == "bytes */480044"
    other = problem_response(MethodNotAllowed(allowed=["GET", "POST"]))
    assert other.headers["allow"] == "GET, POST"
    assert problem_response(RateLimited(retry_after_s=10)).headers["retry-after"] == "10"
    for error in (DatabaseUnavailable(), DepositInProgress(), PointerMoved()):
        assert problem_response(error).headers["retry-after"] == str(RETRY_AFTER_S)
    for final in (ApprovalRequired(), BrakeEngaged(), RoleRequired()):
        assert "retry-after" not in problem_response(final).headers
