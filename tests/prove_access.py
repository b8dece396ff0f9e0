"""``make prove-access``: eight minutes of evidence of who may do what, and one line of counts.

Three steps, each a run of tests with its progress: hostile tokens against a second implementation,
every route of the description with foreign names, a whole day of a call centre against an
independent model. The controls run with them. A step that did not count what it should have is
shown as ``?`` and fails the run.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Final

from tests import prove_ledger
from tests.prove_ledger import Step

COUNTED: Final = (
    "decisions",
    "differences",
    "tokens",
    "token_holes",
    "routes",
    "route_leaks",
)
LEAST: Final = {"decisions": 20_000, "tokens": 5_000, "routes": 44}
STEPS: Final = (
    Step(
        "hostile tokens, and the cases by name",
        (
            "tests/abuse/test_api_token_differential.py",
            "tests/abuse/test_abuse_tokens.py",
            "tests/abuse/test_api_jwks.py",
            "tests/abuse/test_abuse_cases.py",
        ),
        "prove or not prove",
        settings={"OUBLIETTE_TEST_TOKENS": "12000"},
    ),
    Step(
        "every route with foreign names, and the walls of PostgreSQL",
        (
            "tests/abuse/test_abuse_foreign_walk.py",
            "tests/abuse/test_abuse_scope.py",
            "tests/contract/test_core_walls.py",
            "tests/flows/test_access_walls.py",
            "tests/contract/test_api_rates.py",
        ),
        "prove or not prove",
    ),
    Step(
        "a day of a call centre against an independent model",
        ("tests/flows/test_access_day.py",),
        "prove or not prove",
        settings={"OUBLIETTE_TEST_DECISIONS": "20000"},
    ),
)


def line(counts: Counter[str], known: set[str]) -> str:
    """Return the one line."""
    said = {name: str(counts[name]) if name in known else "?" for name in COUNTED}
    return (
        f"access: {said['decisions']} decisions, {said['differences']} differences; "
        f"{said['tokens']} tokens, {said['token_holes']} accepted that joserfc refuses; "
        f"{said['routes']} routes, {said['route_leaks']} leaks"
    )


def good(counts: Counter[str], known: set[str]) -> bool:
    """Tell whether everything was counted, enough of it, and nothing bad among it."""
    bad = counts["differences"] + counts["token_holes"] + counts["route_leaks"]
    enough = all(counts[name] >= least for name, least in LEAST.items())
    return known == set(COUNTED) and enough and not bad


def main() -> int:
    """Run every step; return the exit code."""
    counts, known = Counter[str](), set[str]()
    passed = [prove_ledger.run(step, counts, known, COUNTED) for step in STEPS]
    print(line(counts, known))
    return 0 if all(passed) and good(counts, known) else 1


if __name__ == "__main__":
    sys.exit(main())
