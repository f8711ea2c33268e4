"""The node `rewrite_messages`: adds a system message with what the model must know."""

from pathlib import Path

from dialgraph import State, Turn, Update, node
from dialgraph.turn.prompt import first_prompt, rendered, with_rule

FOLDER = Path(__file__).parent / "templates"


@node(may_read=("question", "passages"), writes="prompt", templates="template")
async def rewrite_messages(state: State, turn: Turn, *, template: str = "with_context") -> Update:
    """Add one system message from a template to the request's messages, and remove fields that only hosts read.

    The new message comes after the system messages at the beginning: the graph's instructions and those of the host. No
    message of the caller is lost or moved.

    - `template`: the name of a template without `.j2`, the name of a file beside the graph (`rules.md`), or the text of
      a Jinja template. It can use `passages`, `question`, `call`, `memory` and `messages`.
    """
    return {"prompt": with_rule(await first_prompt(state, turn), await rendered(template, state, turn, (FOLDER,)))}
