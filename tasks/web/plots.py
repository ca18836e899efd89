"""Plots as SVG, made on the server. Numbers stand in a table beside them; colours are the style sheet's (statistics.css)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 720, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 24, 36, 48
_TICKS = 5
_TIMES = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)  # seconds between two ticks


@dataclass(frozen=True)
class Point:
    """`number` is what it is called in the table beside the plot; `weight` from 0 to 1 is its size."""

    number: int
    label: str
    x: float
    y: float
    weight: float
    is_marked: bool = False


def scatter(
    points: Sequence[Point],
    *,
    x: str,
    y: str,
    x_end: float,
    y_end: float,
    x_text: Callable[[float], str],
    y_text: Callable[[float], str],
    title: str,
) -> SafeString:
    """Points between two axes that begin at 0; large ones lie below small ones."""

    def left(value: float) -> float:
        return round(_LEFT + (WIDTH - _LEFT - _RIGHT) * value / x_end, 1)

    def top(value: float) -> float:
        return round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / y_end, 1)

    steps = [step / _TICKS for step in range(_TICKS + 1)]
    grid = format_html_join(
        "",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="tick" x="{}" y="{}" text-anchor="end">{}</text>',
        ((_LEFT, WIDTH - _RIGHT, top(y_end * s), top(y_end * s), _LEFT - 8, top(y_end * s) + 4, y_text(y_end * s)) for s in steps),
    )
    ticks = format_html_join(
        "",
        '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>',
        ((left(x_end * s), HEIGHT - _BOTTOM + 18, x_text(x_end * s)) for s in steps),
    )
    marks = format_html_join(
        "",
        '<g{}><title>{}</title><circle cx="{}" cy="{}" r="{}"/><text x="{}" y="{}" text-anchor="middle">{}</text></g>',
        (
            (
                SafeString(' class="marked"' if p.is_marked else ""),
                f"{p.label}: {x_text(p.x)}, {y_text(p.y)}",
                left(p.x),
                top(p.y),
                round(9 + 9 * p.weight, 1),
                left(p.x),
                top(p.y) + 4,
                p.number,
            )
            for p in sorted(points, key=lambda p: -p.weight)
        ),
    )
    return format_html(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}'
        '<text class="axis" x="{}" y="{}" text-anchor="end">{}</text><text class="axis" x="{}" y="12">{}</text>{}</svg>',
        *(WIDTH, HEIGHT, title, grid, ticks),
        *(WIDTH - _RIGHT, HEIGHT - 8, x, 8, y, marks),
    )


@dataclass(frozen=True)
class Line:
    """`values` stand over the labels of the plot one by one; None is a gap. `name` is its class in the style sheet too."""

    name: str
    values: Sequence[float | None]


def lines(drawn: Sequence[Line], *, labels: Sequence[str], y_end: float, y_text: Callable[[float], str], title: str) -> SafeString:
    """Lines over equal steps, as days, between axes that begin at 0."""
    step = (WIDTH - _LEFT - _RIGHT) / max(len(labels) - 1, 1)
    every = max(1, len(labels) // 7)

    def place(at: int, value: float) -> tuple[float, float]:
        return round(_LEFT + step * at, 1), round(HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / y_end, 1)

    heights = [(place(0, y_end * n / _TICKS)[1], y_text(y_end * n / _TICKS)) for n in range(_TICKS + 1)]
    grid = format_html_join(
        "",
        '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/><text class="tick" x="{}" y="{}" text-anchor="end">{}</text>',
        ((_LEFT, WIDTH - _RIGHT, top, top, _LEFT - 8, top + 4, text) for top, text in heights),
    )
    ticks = format_html_join(
        "",
        '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>',
        ((place(at, 0)[0], HEIGHT - _BOTTOM + 18, labels[at]) for at in range(0, len(labels), every)),
    )
    paths = format_html_join(
        "",
        '<path class="line {}" d="{}"/>{}',
        ((line.name, _path(points), _dots(line, points, labels, y_text)) for line in drawn for points in [_points(line, place)]),
    )
    return format_html(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg>', WIDTH, HEIGHT, title, grid, ticks, paths
    )


_Points = Sequence[tuple[float, float] | None]


def _points(line: Line, place: Callable[[int, float], tuple[float, float]]) -> _Points:
    return [None if value is None else place(at, value) for at, value in enumerate(line.values)]


def _path(points: _Points) -> str:
    """It begins anew after each gap."""
    before: _Points = [None, *points]
    pairs = zip(before, points, strict=False)
    return " ".join(f"{'L' if last else 'M'}{point[0]} {point[1]}" for last, point in pairs if point)


def _dots(line: Line, points: _Points, labels: Sequence[str], y_text: Callable[[float], str]) -> SafeString:
    return format_html_join(
        "",
        '<circle class="dot {}" cx="{}" cy="{}" r="3"><title>{}</title></circle>',
        (
            (line.name, *point, f"{label}: {y_text(value)} ({line.name})")
            for point, label, value in zip(points, labels, line.values, strict=True)
            if point is not None and value is not None
        ),
    )


def bar(share: float) -> SafeString:
    """A share from 0 to 1 as a bar, beside the number that says it."""
    width = round(100 * min(max(share, 0), 1), 1)
    return format_html(
        '<svg class="share" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="whole" width="100" height="6"/><rect width="{}" height="6"/></svg>',
        width,
    )


def nice_end(most: float) -> float:
    """The end of an axis that has room for `most`: 1, 2, 2.5 or 5 times a power of ten."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= most)


def nice_time(most: float) -> float:
    """The end of an axis of seconds that has room for `most`: its ticks are whole seconds, minutes or hours as people count them."""
    return next((_TICKS * step for step in _TIMES if _TICKS * step >= most), nice_end(most))
