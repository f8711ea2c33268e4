"""Compares graphs: asks each of them the same questions, and shows the answers and their times side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import TYPE_CHECKING, Any

from dialgraph.calls.call import Call
from dialgraph.calls.turn import CallTurn
from dialgraph.graph.compile import CompiledGraph
from dialgraph.models.errors import ModelError

if TYPE_CHECKING:
    from pandas import DataFrame

_LABEL, _WIDTH, _ROW = 150, 720, 26


@dataclass(frozen=True, slots=True)
class ComparedTurn:
    """The answer of one graph to one question."""

    graph: str
    question: str
    turn: CallTurn | None
    """None if the turn failed."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of all graphs. A notebook shows them as a table and as a plot of the times to the first word."""

    turns: Sequence[ComparedTurn]

    @property
    def frame(self) -> "DataFrame":
        """Return a table with a row for each answer. It needs pandas: `pip install pandas`."""
        from pandas import DataFrame

        return DataFrame([_row(one) for one in self.turns])

    @property
    def plot(self) -> str:
        """Return the times to the first word as an SVG picture: a dot for each answer, a line at the median."""
        times = {name: self._first_words(name) for name in dict.fromkeys(one.graph for one in self.turns)}
        longest = max([1.0, *(one for known in times.values() for one in known)])
        scale = (_WIDTH - _LABEL - 90) / longest
        rows = []
        for at, (name, known) in enumerate(times.items()):
            y = at * _ROW + 16
            rows.append(f'<text x="0" y="{y + 4}">{escape(name)}</text>')
            rows += [f'<circle cx="{_LABEL + one * scale:.1f}" cy="{y}" r="4" fill="#4a6fa5aa"/>' for one in known]
            if known:
                x = _LABEL + median(known) * scale
                rows.append(f'<path d="M{x:.1f} {y - 9}V{y + 9}" stroke="#2e7d32" stroke-width="2"/>')
                rows.append(f'<text x="{_WIDTH - 84}" y="{y + 4}" fill="#2e7d32">median {median(known):.0f} ms</text>')
        height = len(times) * _ROW + 8
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" font-size="12"'
            f' font-family="system-ui,sans-serif" fill="#1c2330">{"".join(rows)}</svg>'
        )

    def _first_words(self, graph: str) -> list[float]:
        found = (one.turn.first_word_ms for one in self.turns if one.graph == graph and one.turn is not None)
        return [time for time in found if time is not None]

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _row(self.turns[0])) if self.turns else ""
        rows = "".join(f"<tr>{''.join(map(_cell, _row(one).values()))}</tr>" for one in self.turns)
        return f'{self.plot}<table style="font-size:13px"><tr>{head}</tr>{rows}</table>'


def _cell(value: object) -> str:
    return f'<td style="text-align:left">{escape("" if value is None else str(value))}</td>'


def _row(one: ComparedTurn) -> dict[str, Any]:
    turn = one.turn
    return {
        "graph": one.graph,
        "question": one.question,
        "words": turn.words if turn else "",
        "first_word_ms": round(turn.first_word_ms, 1) if turn and turn.first_word_ms is not None else None,
        "total_ms": round(turn.total_ms, 1) if turn else None,
        "passages": len(turn.passages) if turn else None,
        "error": one.error,
    }


async def compare(graphs: Sequence[CompiledGraph], questions: Sequence[str], **options: Any) -> Comparison:
    """Ask each graph each question, each in a call of its own, one after the other. `options`: those of `Call`."""
    lists: Mapping[str, object] = {"graphs": graphs, "questions": questions}
    for name, given in lists.items():
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise TypeError(f"compare: `{name}` must be a list, not {type(given).__name__}.")
    turns = []
    for graph in graphs:
        for question in questions:
            async with Call(graph, **options) as call:
                try:
                    turns.append(ComparedTurn(graph.spec.name, question, await call.say(question)))
                except ModelError as error:
                    turns.append(ComparedTurn(graph.spec.name, question, None, str(error)))
    return Comparison(turns)
