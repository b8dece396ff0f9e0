"""A run against the one that is kept (``bench/baseline.json``): what has moved, and which way.

Ratios are compared, never absolute figures, so the kept run may come from another machine; even so
some ratios are a machine's (a flush, a core), so a difference counts only when it is beyond what
both runs' own rounds scatter, and beyond a fifth.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from bench.page import Page
from bench.plot import key

BASELINE: Final = Path(__file__).with_name("baseline.json")
_SHARE: Final = 1.2


def read_kept(file: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of a kept run by key; nothing when there is none."""
    if not file.exists():
        return {}
    run = json.loads(file.read_text())
    return {
        f"{part['name']} / {one['what']} / {one['limit']}": one
        for part in run["benchmarks"]
        for one in part["figures"]
    }


def ratios(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return each kept figure's ratio."""
    return {name: float(one["ratio"]) for name, one in kept.items()}


def against_lines(page: Page, kept: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what has moved against the kept run, worst first."""
    moved = sorted(_moved(page, kept), reverse=True)
    known = sum(key(part.name, one) in kept for part in page.parts for one in part.figures)
    yield ""
    yield f"== against the kept run: {known} figures in both, {len(moved)} moved"
    for worse, name, before, now in moved:
        word = "worse " if worse > 1 else "better"
        yield f"{word} {max(worse, 1 / worse):.2f}-fold  {before:.3g} to {now:.3g}  {name}"


def _moved(
    page: Page, kept: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[float, str, float, float]]:
    for part in page.parts:
        for one in part.figures:
            name = key(part.name, one)
            old = kept.get(name)
            if old is None or not old["ratio"] or not one.ratio:
                continue
            apart = one.lowest > old["highest"] or one.highest < old["lowest"]
            change = one.ratio / old["ratio"]
            worse = 1 / change if one.higher_is_better else change
            if apart and max(worse, 1 / worse) > _SHARE:
                yield worse, name, float(old["ratio"]), one.ratio
