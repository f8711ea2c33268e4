"""Let a model answer."""

import asyncio
import logging
from contextlib import aclosing
from typing import Annotated, Any

from pydantic import Field

from models.errors import ModelError
from models.port import ChatRequest
from models.question import text_of
from models.standby import stream_first
from nodes.contract import State, Turn, Update, node
from nodes.events import Finish, Say, ToolCallPart
from nodes.messages import upstream_messages
from nodes.offered import OfferedCalls, declared_tools, offered_tools

log = logging.getLogger(__name__)

_AT_ONCE = 2_000
"""Characters of a text that the host gives."""


@node(
    may_read=("prompt", "passages", "question", "passes", "said"),
    writes=("tool_call", "tool_calls", "said", "route"),
    routes=("answered",),
    speaks=True,
    uses={"model": "model", "fallbacks": "model"},
)
async def call_model(
    state: State,
    turn: Turn,
    *,
    model: str = "main",
    upstream_model: str = "",
    parameters: dict[str, Any] | None = None,
    fallbacks: tuple[str, ...] = (),
    hedge_after_ms: Annotated[int, Field(ge=1)] | None = None,
) -> Update:
    """Stream a model's answer to the caller.

    Every parameter of the request goes on to the model; `parameters` are the graph's own and win. A step in its `then`
    table that offers a tool (hangup, transfer, run_tools …) is asked for by the model through that tool; the route is
    then that step's entry, else `answered`. Of the `fallbacks` the next one is asked when a model fails before its
    first word, and with `hedge_after_ms` also when none has said anything by then; the first one to speak goes on.
    Where words become sound, a last message of the assistant's is spoken as it is: the host has the words already.
    """
    if (given := _given_words(turn)) is not None:
        for at in range(0, len(given), _AT_ONCE):
            await turn.say(given[at : at + _AT_ONCE])
            await asyncio.sleep(0)  # a long text does not hold up every other call
        return {"route": "answered"}
    offered = await offered_tools(state, turn)
    request = ChatRequest(
        messages=state.get("prompt") or upstream_messages(turn.messages),
        parameters=offered.parameters(turn, parameters or {}),
        model=upstream_model or turn.model,
        api_key=turn.api_key,
        passages=[passage.text for passage in state["passages"]] if "passages" in state else None,
        question=state.get("question", ""),
    )
    models = [turn.services.model(name) for name in (model, *fallbacks)]
    if fallbacks:
        hedge = hedge_after_ms / 1000 if hedge_after_ms else None
        stream = stream_first(models, request, turn.stack, hedge)
    else:
        stream = models[0].stream(request, turn.stack)
    passages = state.get("passages", [])
    # A document may tell the model to hang up: what nobody declared as a tool does not reach the host.
    asked = OfferedCalls(offered, declared_tools(request.parameters) if passages else None)
    said: list[str] = []
    before = state.get("said", "")
    apart = bool(before) and before[-1].isascii() and not before[-1].isspace()
    async with aclosing(stream) as parts:
        async for part in parts:
            if type(part) is Say:
                if offered.runs_tools:
                    said.append(part.text)
                if apart and not part.text[:1].isspace():
                    part = Say(f" {part.text}")  # what it said before its tools ran ends here
                apart = False
                await turn.emit(part)
            elif isinstance(part, ToolCallPart):
                if (relayed := asked.keep(part)) is not None:
                    await turn.emit(relayed)
            elif not (isinstance(part, Finish) and (asked.kept or asked.refused)):
                await turn.emit(part)
    if asked.refused:
        log.warning("a call of a tool that nobody declared was dropped", extra={"step": turn.step})
        if not turn.spoke and not asked.kept:
            raise ModelError("empty", f"The model {model!r} called a tool that nobody declared, without a word.")
    if asked.kept and not asked.calls and not turn.spoke:
        raise ModelError("empty", f"The model {model!r} asked for tools that it no longer has, without a word.")
    if asked.calls:
        await turn.line.flush_text()
    return {"route": "answered", **asked.update("".join(said))}


def _given_words(turn: Turn) -> str | None:
    """What a host wants to have spoken: Agora's greetings come as a last message of the assistant's."""
    last = turn.messages[-1] if turn.messages else {}
    if not turn.line.voiced or last.get("role") != "assistant":
        return None
    return text_of(last.get("content"))
