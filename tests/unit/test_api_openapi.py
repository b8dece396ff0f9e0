"""The OpenAPI document says what the routes do: every path, method, refusal and example."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from api.app import BYTE_ROUTES, ROUTERS, build_api
from api.metrics import Metrics
from api.openapi import document
from api.problems import STATUS

METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE"}


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    settings = SimpleNamespace(production=False, streams_max=1)
    service: Any = SimpleNamespace(
        settings=settings, role="all", upload_slots=None, metrics=Metrics()
    )
    return document(build_api(service))


def operations(made: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {
        (method.upper(), path): operation
        for path, item in made["paths"].items()
        for method, operation in item.items()
    }


def served() -> set[tuple[str, str]]:
    json_routes = [route for router in ROUTERS for route in router.routes]
    found = {
        (method, route.path.replace(":path}", "}"))
        for route in [*json_routes, *BYTE_ROUTES]
        if isinstance(route, APIRoute | Route)
        for method in route.methods or ()
    }
    assert {method for method, _ in found} <= METHODS
    return found


def test_every_route_is_described_and_every_description_is_served(made: dict[str, Any]) -> None:
    assert set(operations(made)) == served()


def test_every_operation_has_words_and_its_refusals(made: dict[str, Any]) -> None:
    for (method, path), operation in operations(made).items():
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation.get("description"), where
        answers = operation["responses"]
        assert any(status.startswith("2") for status in answers), where
        if path.startswith("/v1/") and path != "/v1/version" and "/audio" not in path:
            assert "401" in answers, where
            assert operation["security"], where


def test_every_problem_stands_under_its_own_status(made: dict[str, Any]) -> None:
    seen = set()
    for operation in operations(made).values():
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/problem+json")
            for code, example in (content or {}).get("examples", {}).items():
                seen.add(code)
                assert STATUS[code] == int(status) == example["value"]["status"]
    assert len(seen) > 40


def test_every_json_body_has_an_example(made: dict[str, Any]) -> None:
    for where, operation in operations(made).items():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            continue
        reference = content["schema"].get("$ref", "").rpartition("/")[2]
        schema = made["components"]["schemas"].get(reference, {})
        assert schema.get("examples") or content.get("examples"), where


def test_no_schema_is_left_over_or_missing(made: dict[str, Any]) -> None:
    import json

    text = json.dumps(made)
    for name in made["components"]["schemas"]:
        assert f"#/components/schemas/{name}" in text, name
    assert "HTTPValidationError" not in text


def test_ids_of_operations_are_unique(made: dict[str, Any]) -> None:
    ids = [operation["operationId"] for operation in operations(made).values()]
    assert len(ids) == len(set(ids))


def test_the_page_of_routes_is_the_programs_own(made: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+) (/\S+)` \| ([a-z, -]+) \| .+ \|$", page, re.MULTILINE)
    assert {(method, path) for method, path, _ in rows} == set(operations(made))
    for method, path, roles in rows:
        operation = operations(made)[method, path]
        assert (roles in {"anyone", "ticket"}) == (not operation.get("security")), path
