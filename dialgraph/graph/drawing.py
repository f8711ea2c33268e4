"""Draws a graph as SVG, without a browser or a network: each step below the steps that lead to it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from dialgraph.graph.paths import following
from dialgraph.graph.spec import END, Graph, Step

_HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 46, 40, 44, 24
_CHARACTER = 8.2
"""The width of a character of a step's name, in pixels."""
_STYLE = (
    "text{font-family:system-ui,sans-serif;fill:#1c2330}.name{font-size:14px;font-weight:600}"
    ".about{font-size:11px;fill:#5b6472}.route{font-size:11px;fill:#8a4b00;stroke:#fff;stroke-width:4px;paint-order:stroke}"
    ".step{fill:#eef3fb;stroke:#4a6fa5}.end{fill:#1c2330}.way{fill:none;stroke:#6b7686;stroke-width:1.4}"
)


@dataclass(frozen=True, slots=True)
class _Box:
    """A step in the drawing: its middle, its width, and its row."""

    x: float
    y: float
    width: float
    row: int


def draw(graph: Graph) -> str:
    """Return the graph as an SVG picture. The same graph always gives the same bytes."""
    ways = _ways(graph)
    boxes = _boxes(graph, ways)
    right = max(box.x + box.width / 2 for box in boxes.values())
    shapes: list[str] = []
    side = 0
    labelled: list[str] = []
    for (source, target), labels in ways.items():
        start, end = boxes[source], boxes[target]
        near = end.row == start.row + 1
        side += not near
        line, *label = _way(start, end, ", ".join(labels), near=near, lane=right + 18 * side)
        shapes.append(line)
        labelled += label  # above all lines
    for step in graph.steps:
        shapes += _step(step, boxes[step.id])
    shapes += labelled
    last = boxes[END]
    shapes.append(f'<circle class="end" cx="{last.x:.0f}" cy="{last.y:.0f}" r="7"><title>END</title></circle>')
    longest = max((len(", ".join(labels)) for labels in ways.values()), default=0)
    width = max(right + 18 * side, boxes[END].x) + longest * 6 + _MARGIN
    height = max(box.y for box in boxes.values()) + _MARGIN + 10
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
        f' role="img" aria-label="The graph {escape(graph.name)}"><style>{_STYLE}</style>'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#6b7686"/></marker></defs>'
        f'<rect width="100%" height="100%" rx="8" fill="#fff"/>{"".join(shapes)}</svg>\n'
    )


def _ways(graph: Graph) -> dict[tuple[str, str], list[str]]:
    """Return (step, next step) → the labels of the way. A step without a choice has a way without a label."""
    ways: dict[tuple[str, str], list[str]] = {}
    for at, step in enumerate(graph.steps):
        for route, target in following(graph, at).items():
            labels = ways.setdefault((step.id, target), [])
            if isinstance(step.then, dict):
                labels.append(route)
        for label, way in (("timeout", step.on_timeout), ("error", step.on_error)):
            if way:
                known = (step.id, way) in ways
                ways.setdefault((step.id, way), []).append(f"also after {label}" if known else label)
    return ways


def _boxes(graph: Graph, ways: Mapping[tuple[str, str], object]) -> dict[str, _Box]:
    rows = _rows(graph, ways)
    by_row: dict[int, list[str]] = {}
    for name, row in rows.items():
        by_row.setdefault(row, []).append(name)
    widths = {step.id: max(120.0, len(step.id) * _CHARACTER + 32, len(_about(step)) * 5.9 + 24) for step in graph.steps}
    widths[END] = 14.0
    spans = {row: sum(widths[name] for name in names) + _GAP_X * (len(names) - 1) for row, names in by_row.items()}
    middle = _MARGIN + max(spans.values()) / 2
    boxes: dict[str, _Box] = {}
    for row, names in by_row.items():
        left = middle - spans[row] / 2
        for name in names:
            y = _MARGIN + _HEIGHT / 2 + row * (_HEIGHT + _GAP_Y)
            boxes[name] = _Box(left + widths[name] / 2, y, widths[name], row)
            left += widths[name] + _GAP_X
    return boxes


def _rows(graph: Graph, ways: Mapping[tuple[str, str], object]) -> dict[str, int]:
    """Return the row of each step: one below the lowest step that leads to it. A way back does not count."""
    order = [step.id for step in graph.steps]
    rows = dict.fromkeys(order, 0)
    for name in order:
        for source, target in ways:
            if source == name and target != END and order.index(target) > order.index(name):
                rows[target] = max(rows[target], rows[name] + 1)
    rows[END] = max(rows.values()) + 1
    return rows


def _about(step: Step) -> str:
    told = [] if step.id == step.node else [step.node]
    told += [f"{name}={value}" for name, value in step.options.items() if isinstance(value, int | float | str)]
    told += [f"{step.timeout_ms} ms"] if step.timeout_ms else []
    text = " · ".join(told)
    return text if len(text) <= 44 else text[:43] + "…"


def _step(step: Step, box: _Box) -> Sequence[str]:
    about = _about(step)
    x, y, width = box.x - box.width / 2, box.y - _HEIGHT / 2, box.width
    drawn = [
        f'<rect class="step" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="9"/>',
        f'<text class="name" x="{box.x:.0f}" y="{box.y + (-3 if about else 5):.0f}" text-anchor="middle">'
        f"{escape(step.id)}</text>",
    ]
    if about:
        drawn.append(
            f'<text class="about" x="{box.x:.0f}" y="{box.y + 14:.0f}" text-anchor="middle">{escape(about)}</text>'
        )
    return drawn


def _way(start: _Box, end: _Box, label: str, *, near: bool, lane: float) -> Sequence[str]:
    top = end.y - (_HEIGHT / 2 if end.width > 14 else 7)
    if near:
        y = start.y + _HEIGHT / 2
        curve = f"M{start.x:.0f} {y:.0f}C{start.x:.0f} {y + 26:.0f} {end.x:.0f} {top - 26:.0f} {end.x:.0f} {top:.0f}"
        at = (start.x + end.x) / 2 + 6, (y + top) / 2 + 4
    else:
        # Around the other steps, on a lane of its own at the right.
        x, y, into = start.x + start.width / 2, start.y, end.x + end.width / 2
        curve = f"M{x:.0f} {y:.0f}H{lane - 8:.0f}Q{lane:.0f} {y:.0f} {lane:.0f} {y + _turn(y, end.y):.0f}"
        curve += f"V{end.y - _turn(y, end.y):.0f}Q{lane:.0f} {end.y:.0f} {lane - 8:.0f} {end.y:.0f}H{into:.0f}"
        at = lane + 5, y + (end.y - y) / 3
    drawn = [f'<path class="way" d="{curve}" marker-end="url(#tip)"/>']
    if label:
        drawn.append(f'<text class="route" x="{at[0]:.0f}" y="{at[1]:.0f}">{escape(label)}</text>')
    return drawn


def _turn(start: float, end: float) -> float:
    return 8 if end > start else -8
