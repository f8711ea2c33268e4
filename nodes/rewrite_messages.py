"""Put what the model must know into the prompt, beside the caller's messages."""

from functools import cache
from pathlib import Path
from typing import Annotated

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator

from dialgraph import State, Turn, Update, node
from dialgraph.turn.upstream_messages import upstream_messages

FOLDER = Path(__file__).parent / "templates"
# Sandboxed though only a graph's author writes templates: what they fill in comes from callers and documents.
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

_FENCE = str.maketrans({"<": "‹", ">": "›"})


def _fenced(text: str) -> str:
    """A document's words so that none of them can end the fence that they stand in."""
    return text.translate(_FENCE)


def _line(value: object) -> str:
    """A value that a caller gave, on one line and without the marks of a fence."""
    return _fenced(" ".join(str(value).split()))


_ENVIRONMENT.filters["fenced"] = _fenced
_ENVIRONMENT.filters["line"] = _line


def _source(template: str) -> str:
    """A template's text: the file of that name, or the text itself if it is no name."""
    if not template.isidentifier():
        return template
    path = FOLDER / f"{template}.j2"
    if not path.exists():
        names = ", ".join(sorted(repr(file.stem) for file in FOLDER.glob("*.j2")))
        raise ValueError(f"no template {template!r}. Accepted: {names}, or a template's text")
    return path.read_text(encoding="utf-8")


def _checked(template: str) -> str:
    try:
        _compiled(template)
    except TemplateError as error:
        raise ValueError(f"the template cannot be read: {error}") from error
    return template


@cache
def _compiled(template: str):  # type: ignore[no-untyped-def]  # jinja2 keeps Template's loader types private
    return _ENVIRONMENT.from_string(_source(template))


DEFAULT = "with_context"
_compiled(DEFAULT)  # read now, not in the middle of the first turn


@node(may_read="passages", writes="prompt")
async def rewrite_messages(
    state: State, turn: Turn, *, template: Annotated[str, AfterValidator(_checked)] = DEFAULT
) -> Update:
    """Add one system message made from a template, and leave out what only the host needs.

    The template sees `passages`, `question`, `call`, `memory` and `messages`. No message of the caller is lost or
    moved: ours stands behind the system messages that the caller put first, where every provider accepts it.
    """
    prompt = upstream_messages(turn.messages)
    await turn.memory.load()
    text = _compiled(template).render(
        passages=state.get("passages", []),
        question=state["question"],
        call=turn.call,
        memory=turn.memory,
        messages=turn.messages,
    )
    if text.strip():
        roles = [message.get("role") in ("system", "developer") for message in prompt]
        place = roles.index(False) if False in roles else len(prompt)
        prompt.insert(place, {"role": "system", "content": text.strip()})
    return {"prompt": prompt}
