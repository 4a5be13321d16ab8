"""The plot: horizontal bars on a logarithmic scale, one panel per scenario and backend, as plain SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.measurement import Row

_COLOURS = {
    "holdfast": "#1b6ca8",
    "raw": "#9aa5b1",
    "dbos": "#d1793b",
    "dbos-best": "#e2a66f",
    "langgraph": "#4f9d69",
    "absurd": "#8e6bbf",
    "pgqueuer": "#4f9d69",
    "procrastinate": "#8e6bbf",
}
_OTHER = "#666666"
_RATES = ("steps/s", "jobs/s")
_WIDTH, _LABELS, _NUMBERS, _BAR, _GAP = 860, 190, 90, 16, 4


def svg(rows: Sequence[Row]) -> str:
    """The rates among `rows` as one picture; rows without a value and other units are left out."""
    panels: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if row["value"] and row["unit"] in _RATES:
            panels.setdefault((row["scenario"], row["backend"], row["unit"]), []).append(row)
    parts: list[str] = []
    y = 10
    for (scenario, backend, unit), members in panels.items():
        parts.append(_text(10, y + 16, f"{scenario} on {backend}, {unit}, logarithmic", weight="bold"))
        y += 28
        drawn, y = _panel(members, y)
        parts += drawn
        y += 16
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" viewBox="0 0 {_WIDTH} {y}" '
        f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#ffffff"/>\n'
        f"{body}\n</svg>\n"
    )


def _panel(rows: list[Row], y: int) -> tuple[list[str], int]:
    low = math.floor(math.log10(min(row["value"] for row in rows)))
    high = max(low + 1, math.ceil(math.log10(max(row["value"] for row in rows))))
    room = _WIDTH - _LABELS - _NUMBERS
    parts: list[str] = []
    top = y
    callers = None
    for row in rows:
        if row["concurrency"] != callers:
            callers = row["concurrency"]
            y += 8
            parts.append(_text(10, y + 12, f"{callers} at once"))
        length = max(1.0, room * (math.log10(row["value"]) - low) / (high - low))
        colour = _COLOURS.get(row["system"], _OTHER)
        parts.append(f'<rect x="{_LABELS}" y="{y}" width="{length:.1f}" height="{_BAR}" fill="{colour}"/>')
        parts.append(_text(_LABELS - 8, y + 12, row["system"], anchor="end"))
        parts.append(_text(_LABELS + length + 6, y + 12, f"{row['value']:,.0f}"))
        y += _BAR + _GAP
    return [*_grid(low, high, room, top, y), *parts], y + 16


def _grid(low: int, high: int, room: int, top: int, bottom: int) -> Iterator[str]:
    for power in range(low, high + 1):
        x = _LABELS + room * (power - low) / (high - low)
        yield f'<line x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}" stroke="#dddddd"/>'
        yield _text(x, bottom + 12, f"{10**power:,}", anchor="middle", colour="#888888")


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal",
          colour: str = "#222222") -> str:  # fmt: skip
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}" fill="{colour}">'
        f"{escape(text)}</text>"
    )
