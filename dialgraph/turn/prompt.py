"""The prompt of a model: the graph's instructions, the host's system messages, and the conversation.

The instructions come first. Then come the host's own system messages, in their order, and then what a step adds, such
as the passages that it found. So the host can be more specific than the graph, and what was found is closest to the
question.
"""

from typing import Any

from dialgraph.models.port import Message
from dialgraph.turn.node import State, Turn
from dialgraph.turn.templates import Folders, render
from dialgraph.turn.upstream_messages import RULES, upstream_messages


async def first_prompt(state: State, turn: Turn) -> list[Message]:
    """Return the messages for a model: the graph's instructions, then the request's messages, repaired."""
    messages = upstream_messages(turn.messages)
    if turn.place.instructions and (text := await rendered(turn.place.instructions, state, turn)):
        messages.insert(0, {"role": "system", "content": text})
    return messages


def with_rule(messages: list[Message], text: str) -> list[Message]:
    """Return the messages with one more system message, after those at the beginning. Every provider accepts that."""
    roles = [message.get("role") in RULES for message in messages]
    place = roles.index(False) if False in roles else len(messages)
    return [*messages[:place], {"role": "system", "content": text}, *messages[place:]] if text else messages


async def rendered(template: str, state: State, turn: Turn, folders: Folders = ()) -> str:
    """Return the text of a template for this turn. Raise TemplateError if there is no such template.

    `folders`: where to look for it if the step is in no graph.
    """
    await turn.memory.load()
    values: dict[str, Any] = {
        **state,
        "passages": state.get("passages", []),
        "question": state.get("question", turn.question),
        "call": turn.call,
        "memory": turn.memory,
        "messages": turn.messages,
    }
    return render(template, turn.place.folders or folders, values)
