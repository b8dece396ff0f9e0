"""The page as a picture: one row a figure, a dot at the ratio, a bar from lowest to highest round.

SVG written by hand, no library and nothing loaded: it opens in any browser. The scale is
logarithmic; the line at 1 is the named limit. A figure that the run before had too shows a hollow
dot where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Final
from xml.sax.saxutils import escape

from bench.figure import Figure
from bench.page import Page

_LEFT: Final = 560
_WIDTH: Final = 620
_RIGHT: Final = 130
_ROW: Final = 20
_HEAD: Final = 56
_GOOD, _BAD, _INK, _PALE = "#1a7f4b", "#b3261e", "#20242a", "#c9ced6"


def svg(page: Page, before: Mapping[str, float]) -> str:
    """Return the picture of a run.

    Args:
        page: the run.
        before: ratio of an earlier run by ``key``; may be empty.
    """
    rows = [(part.name, one) for part in page.parts for one in part.figures]
    scale = _Scale([one for _, one in rows])
    height = _HEAD + _ROW * (len(rows) + len(page.parts)) + 20
    lines = list(_rows(page, scale, before))
    size = f'width="{_LEFT + _WIDTH + _RIGHT}" height="{height}"'
    font = f'font-family="sans-serif" font-size="12" fill="{_INK}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>',
            '<rect width="100%" height="100%" fill="white"/>',
            _text(12, 20, f"Oubliette, ours over the named limit, {page.began_at}", weight="bold"),
            _text(12, 36, "; ".join(page.machine.values())),
            *scale.ticks(height),
            *lines,
            "</svg>\n",
        ]
    )


def key(part: str, one: Figure) -> str:
    """Return what names a figure from run to run."""
    return f"{part} / {one.what} / {one.limit}"


class _Scale:
    """Where a ratio lies, in pixels."""

    def __init__(self, figures: Sequence[Figure]) -> None:
        values = [v for one in figures for v in (one.lowest, one.highest, 1.0) if v > 0]
        self.low = math.floor(math.log10(min(values, default=1.0)))
        self.high = max(math.ceil(math.log10(max(values, default=10.0))), self.low + 1)

    def x(self, ratio: float) -> float:
        share = (math.log10(max(ratio, 10.0**self.low)) - self.low) / (self.high - self.low)
        return round(_LEFT + share * _WIDTH, 1)

    def ticks(self, height: int) -> Iterator[str]:
        for power in range(self.low, self.high + 1):
            at, colour = self.x(10.0**power), _INK if power == 0 else _PALE
            yield f'<path d="M{at} {_HEAD - 8}V{height - 8}" stroke="{colour}" stroke-width="1"/>'
            yield _text(at, _HEAD - 12, f"{10.0**power:g}", anchor="middle")


def _rows(page: Page, scale: _Scale, before: Mapping[str, float]) -> Iterator[str]:
    y = _HEAD + 12
    for part in page.parts:
        yield _text(12, y, f"{part.name}: {part.title}"[:90], weight="bold")
        y += _ROW
        for one in part.figures:
            colour = _INK if one.passed is None else _GOOD if one.passed else _BAD
            yield _text(24, y, f"{one.what} · {one.limit} {'↑' * one.higher_is_better}")
            at = y - 4
            low, high = scale.x(one.lowest), scale.x(one.highest)
            yield f'<path d="M{low} {at}H{high}" stroke="{colour}" stroke-width="3" opacity=".35"/>'
            yield f'<circle cx="{scale.x(one.ratio)}" cy="{at}" r="4" fill="{colour}"/>'
            kept = before.get(key(part.name, one))
            if kept is not None:
                where = f'cx="{scale.x(kept)}" cy="{at}" r="4"'
                yield f'<circle {where} fill="none" stroke="{_INK}" stroke-width="1"/>'
            yield _text(_LEFT + _WIDTH + 12, y, f"{one.ratio:.3g}")
            y += _ROW


def _text(x: float, y: float, words: str, *, weight: str = "", anchor: str = "") -> str:
    style = (f' font-weight="{weight}"' if weight else "") + (
        f' text-anchor="{anchor}"' if anchor else ""
    )
    return f'<text x="{x}" y="{y}"{style}>{escape(words)}</text>'
