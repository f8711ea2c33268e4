"""Titles of conversations: a few words from the model, or the beginning of the first question."""

import asyncio
from contextlib import closing

from dialgraph.models.errors import ModelError
from dialgraph.turn.call import CallInfo
from dialgraph.turn.events import Failed, Say
from dialgraph.turn.request import TurnRequest
from dialgraph.users.accounts.accounts import Identity
from dialgraph.users.conversations.values import Conversation
from server.api.admit import admitted
from server.api.conversation_turn import TEXT, endpoint_of, own_upstream, servers_model
from server.state import ServerState

LONGEST_TITLE = 60
TITLE_SECONDS = 10.0
_SHOWN = 2_000
"""Characters of the first question and of its answer that the model receives."""
_ASK = (
    "Give this conversation a title of at most six words, in its language. Answer with the title alone: no quotes, no"
    " full stop."
)


async def title_for(state: ServerState, who: Identity, conversation: Conversation) -> str:
    """Return a new title, or the present one if the conversation has no turn yet."""
    turns = await state.conversations.turns(who.user.id, conversation.id, 1)
    if not turns:
        return conversation.title
    begins = f"User: {turns[0].question[:_SHOWN]}\n\nAssistant: {turns[0].answer[:_SHOWN]}"
    words = ""
    if conversation.sealed_key or state.settings.model_addresses()["main"].url != "extractive:":
        try:
            async with asyncio.timeout(TITLE_SECONDS):
                words = await _asked(state, who, conversation, begins)
        except (ModelError, TimeoutError):
            words = ""
    return _short(words.strip().strip("\"'“”《》「」.。") or turns[0].question)


async def _asked(state: ServerState, who: Identity, conversation: Conversation, begins: str) -> str:
    model, key = own_upstream(state, conversation)
    endpoint = endpoint_of(state, state.settings.conversation_graph)
    asked = TurnRequest(
        [{"role": "system", "content": _ASK}, {"role": "user", "content": begins}],
        call=CallInfo(principal=who.principal),
        profile=TEXT,
        model=conversation.model if model else servers_model(state, conversation.model),
        api_key=key,
        endpoint=endpoint.spec.name,
        upstream=model,
    )
    async with admitted(state, who, asked.messages, {}) as admission:
        run = state.runs.start_or_join(endpoint, asked, admission)
        words = ""
        try:
            with closing(run.subscribe()) as subscription:
                async for events in subscription:
                    if isinstance(events[-1], Failed):
                        raise events[-1].error
                    words += "".join(event.text for event in events if isinstance(event, Say))
        finally:
            await run.left()
        return words


def _short(words: str) -> str:
    line = " ".join(words.split())
    return line if len(line) <= LONGEST_TITLE else line[: LONGEST_TITLE - 1].rstrip() + "…"
