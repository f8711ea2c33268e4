"""Shows a turn as HTML in a notebook: its words, its waterfall, its passages and its sound. Pure, without a network."""

from collections.abc import Sequence
from html import escape

from dialgraph.models.history.text import text_of
from dialgraph.models.port import Message
from dialgraph.passages import Passage
from dialgraph.turn.events import Timing

_ROW, _LABEL, _WIDTH = 22, 150, 720
_COLOURS = {"ok": "#4a6fa5", "timeout": "#c47f17", "error": "#b3362c"}
_SMALL = "font-size:12px;color:#5b6472"


def page(said: str, words: str, actions: Sequence[str], sound: str, parts: Sequence[str]) -> str:
    """Return a turn: what was said, what was heard, and these parts. `sound`: a WAV file in base64."""
    lines = [f'<div style="{_SMALL}">caller</div><div>{escape(said)}</div>'] if said else []
    lines.append(f'<div style="{_SMALL}">agent</div><div style="font-weight:600">{escape(words) or "&nbsp;"}</div>')
    lines += [f"<div>→ {escape(action)}</div>" for action in actions]
    if sound:
        lines.append(f'<audio controls src="data:audio/wav;base64,{sound}"></audio>')
    body = "".join((*lines, *parts))
    return f'<div style="font-family:system-ui,sans-serif;max-width:{_WIDTH}px;margin:8px 0">{body}</div>'


def waterfall(timeline: Sequence[Timing], first_word_ms: float | None, total_ms: float) -> str:
    """Return the steps as bars over time, with a line at the first word."""
    longest = max([total_ms, 1.0, *(one.ended_ms for one in timeline)])
    scale = (_WIDTH - _LABEL - 70) / longest
    rows = []
    for at, one in enumerate(timeline):
        y, x, width = at * _ROW, _LABEL + one.started_ms * scale, max((one.ended_ms - one.started_ms) * scale, 2.0)
        rows.append(
            f'<text x="0" y="{y + 15}">{escape(one.step)}</text>'
            f'<rect x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="14" rx="3" fill="{_COLOURS[one.outcome]}"/>'
            f'<text x="{x + width + 5:.1f}" y="{y + 15}">{one.ended_ms - one.started_ms:.1f} ms</text>'
        )
    height = max(len(timeline), 1) * _ROW
    if first_word_ms is not None:
        x = _LABEL + first_word_ms * scale
        rows.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}" stroke="#2e7d32" stroke-dasharray="3 2"/>')
        side = "end" if x > _WIDTH - 110 else "start"
        label = f"first word {first_word_ms:.0f} ms"
        rows.append(f'<text x="{x:.1f}" y="{height + 14}" text-anchor="{side}" fill="#2e7d32">{label}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height + 20}" style="margin:6px 0"'
        f' font-family="system-ui,sans-serif" font-size="12" fill="#1c2330">{"".join(rows)}</svg>'
    )


def passages_table(passages: Sequence[Passage]) -> str:
    """Return the passages with their scores."""
    rows = "".join(
        f"<tr><td>{one.score:.2f}</td><td>{escape(one.document)}{f', p. {one.page}' if one.page else ''}</td>"
        f'<td style="text-align:left">{escape(one.text)}</td></tr>'
        for one in passages
    )
    return f'<table style="font-size:13px"><tr><th>score</th><th>document</th><th>passage</th></tr>{rows}</table>'


def prompt_list(messages: Sequence[Message]) -> str:
    """Return the prompt, folded until somebody opens it."""
    rows = "".join(
        f'<div style="{_SMALL}">{escape(str(one.get("role")))}</div>'
        f'<pre style="white-space:pre-wrap;margin:0 0 6px">{escape(text_of(one.get("content")))}</pre>'
        for one in messages
    )
    return f"<details><summary>prompt</summary>{rows}</details>"
