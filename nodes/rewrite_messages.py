"""The node `rewrite_messages`: adds a system message with what the model must know."""

from functools import cache
from pathlib import Path
from typing import Annotated

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import AfterValidator

from dialgraph import State, Turn, Update, node
from dialgraph.turn.upstream_messages import upstream_messages

FOLDER = Path(__file__).parent / "templates"
# Only authors write templates, but their values come from callers and documents. So the environment is sandboxed.
_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

_FENCE = str.maketrans({"<": "‹", ">": "›"})


def _fenced(text: str) -> str:
    """Return the text with `<` and `>` replaced, so that a document cannot close the tag that encloses it."""
    return text.translate(_FENCE)


def _line(value: object) -> str:
    """Return the caller's value on one line, with `<` and `>` replaced."""
    return _fenced(" ".join(str(value).split()))


_ENVIRONMENT.filters["fenced"] = _fenced
_ENVIRONMENT.filters["line"] = _line


def _source(template: str) -> str:
    """Return the text of a template: the file of that name, or `template` itself if it is not a name."""
    if not template.isidentifier():
        return template
    path = FOLDER / f"{template}.j2"
    if not path.exists():
        names = ", ".join(sorted(repr(file.stem) for file in FOLDER.glob("*.j2")))
        raise ValueError(f"unknown template {template!r}. Accepted: {names}, or the text of a template")
    return path.read_text(encoding="utf-8")


def _checked(template: str) -> str:
    try:
        _compiled(template)
    except TemplateError as error:
        raise ValueError(f"the template is not valid: {error}") from error
    return template


@cache
def _compiled(template: str):  # type: ignore[no-untyped-def]  # jinja2 keeps Template's loader types private
    return _ENVIRONMENT.from_string(_source(template))


DEFAULT = "with_context"
_compiled(DEFAULT)  # compiled now, so that the first turn does not wait for it


@node(may_read="passages", writes="prompt")
async def rewrite_messages(
    state: State, turn: Turn, *, template: Annotated[str, AfterValidator(_checked)] = DEFAULT
) -> Update:
    """Add one system message from a template to the request's messages, and remove fields that only hosts read.

    The new message comes after the system messages at the beginning, because every provider accepts it there. No
    message of the caller is lost or moved.

    - `template`: the name of a file in `nodes/templates/` without `.j2`, or the text of a Jinja template. It can use
      `passages`, `question`, `call`, `memory` and `messages`.
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
