"""Makes the pictures of docs/studio.md from the API: a graph, and what each step of a run adds to the state."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import orjson

from dialgraph.graph.drawing import draw
from dialgraph.graph.state import HIDDEN
from dialgraph.services.services import default_services

QUESTION = "Can I bring my dog?"
_LINE, _WIDTH, _LONGEST = 19, 880, 104
_STYLE = (
    "text{font-family:ui-monospace,monospace;font-size:12px;fill:#1c2330}.step{font-weight:700}"
    ".key{fill:#8a4b00}.value{fill:#3c4656}"
)


def graph_picture() -> str:
    """Return the drawing of the endpoint `hangup`."""
    from graphs.hangup import spec

    return draw(spec)


def steps_picture() -> str:
    """Return what each step of a turn of `rag` adds to the state, as LangGraph reports it to any of its clients."""
    with tempfile.TemporaryDirectory() as folder:
        before = {name: os.environ.get(name) for name in ("DIALGRAPH_DATA_DIR", "DIALGRAPH_MODELS")}
        os.environ.update({"DIALGRAPH_DATA_DIR": folder, "DIALGRAPH_MODELS": '{"main": "extractive:"}'})
        try:
            updates = asyncio.run(_updates())
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
    return _panel([line for step, values in updates for line in (("step", step), *_shown(values))])


async def _updates() -> list[tuple[str, Mapping[str, Any]]]:
    from graphs.rag import graph

    asked = {"messages": [{"role": "user", "content": QUESTION}]}
    try:
        return [pair async for update in graph.astream(asked, stream_mode="updates") for pair in update.items()]
    finally:
        await default_services().aclose()


def _shown(values: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    """Return the keys that an author sees, on one line each. The times are left out, because they differ."""
    shown = []
    for key, value in values.items():
        if value is None or key == "steps" or key in HIDDEN:
            continue
        if key == "messages":
            value = [{"type": one.type, "content": one.content} for one in value]
        text = orjson.dumps(_rounded(value)).decode()
        shown.append((key, text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"))
    return shown


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 2)
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return {key: _rounded(one) for key, one in value.items()} if isinstance(value, dict) else value


def _panel(lines: Sequence[tuple[str, str]]) -> str:
    drawn, y = [], 12
    for kind, text in lines:
        y += _LINE + (8 if kind == "step" else 0)
        if kind == "step":
            drawn.append(f'<text class="step" x="18" y="{y}">{escape(text)}</text>')
        else:
            drawn.append(f'<text x="36" y="{y}"><tspan class="key">{escape(kind)}</tspan> ')
            drawn.append(f'<tspan class="value">{escape(text)}</tspan></text>')
    height = y + 18
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img"'
        f' aria-label="What each step adds to the state"><style>{_STYLE}</style>'
        f'<rect width="100%" height="100%" rx="8" fill="#f7f8fa"/>{"".join(drawn)}</svg>\n'
    )


PICTURES: Mapping[str, Callable[[], str]] = {
    "images/hangup.svg": graph_picture,
    "images/steps.svg": steps_picture,
}
