"""Makes the messages for a model from the stored turns of a conversation. Pure."""

from collections.abc import Mapping, Sequence

from dialgraph.users.conversations.values import KeptTurn

MOST_TURNS = 50
"""The largest number of earlier turns that are sent to a model."""
MOST_CHARACTERS = 48_000
"""The largest length of those turns together, about 12,000 tokens: the cost of a turn must not grow with the
conversation."""


def messages_for(instructions: str, earlier: Sequence[KeptTurn], question: str) -> list[Mapping[str, object]]:
    """Return the messages. Roles alternate, because some models refuse two messages of one role in a row."""
    messages: list[Mapping[str, object]] = []
    if instructions:
        messages.append({"role": "system", "content": instructions})
    asked: list[str] = []
    for turn in _latest(earlier):
        asked.append(turn.question)
        if turn.answer.strip():
            messages += [_says("user", "\n".join(asked)), _says("assistant", turn.answer)]
            asked = []
    return [*messages, _says("user", "\n".join([*asked, question]))]


def _latest(turns: Sequence[KeptTurn]) -> Sequence[KeptTurn]:
    """Return the latest turns that fit into a prompt."""
    room = MOST_CHARACTERS
    begin = len(turns)
    while begin > max(0, len(turns) - MOST_TURNS):
        room -= len(turns[begin - 1].question) + len(turns[begin - 1].answer)
        if room < 0:
            break
        begin -= 1
    return turns[begin:]


def _says(role: str, content: str) -> Mapping[str, object]:
    return {"role": role, "content": content}
