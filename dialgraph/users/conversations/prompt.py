"""From what is kept of a conversation to the messages that a model gets. Pure."""

from collections.abc import Mapping, Sequence

from dialgraph.users.conversations.values import KeptTurn

MOST_TURNS = 50
"""Earlier turns that a model is shown at most."""
MOST_CHARACTERS = 48_000
"""Of those turns together, about 12,000 tokens: a long conversation must not make each turn dearer."""


def messages_for(instructions: str, earlier: Sequence[KeptTurn], question: str) -> list[Mapping[str, object]]:
    """The messages, user and assistant in turn: some models refuse two of one side."""
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
    """The last of them, as many as a prompt has room for."""
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
