"""The node `call_model`: asks a model and speaks its answer."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import aclosing
from typing import Annotated, Any

from pydantic import Field

from dialgraph import Finish, ModelError, Say, State, Turn, Update, node
from dialgraph.models.declared_tools import declared_tools
from dialgraph.models.fallback import stream_first
from dialgraph.models.history.text import text_of
from dialgraph.models.parts import Part
from dialgraph.models.port import ChatRequest
from dialgraph.models.usage import estimate, estimated_usage
from dialgraph.turn.events import Relay, ToolCallPart, Usage
from dialgraph.turn.offered_tools import OfferedCalls, offered_tools
from dialgraph.turn.prompt import first_prompt
from dialgraph.turn.watching import ModelCall

log = logging.getLogger(__name__)

_AT_ONCE = 2_000
"""The number of characters that are spoken at a time, if the host gives the text."""


@node(
    may_read=("prompt", "built", "passages", "question", "passes", "tail"),
    writes=("tool_call", "tool_calls", "said", "attached", "tail", "prompt", "built", "route"),
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
    """Ask a model and stream its answer to the caller.

    The `then` table can lead to steps that offer a tool (hangup, transfer, run_tools …). The model gets these tools.
    When it calls one, the route is the entry of that step. Otherwise the route is `answered`.

    If words become sound and the last message is the assistant's, that message is spoken as it is, without a model.
    Hosts send such a message when they already have the words, for example a greeting.

    - `model`: the name of a model in the settings.
    - `upstream_model`: the upstream's name of the model, in place of the one that the request names.
    - `parameters`: parameters for the model. They override those of the request (docs/models.md).
    - `fallbacks`: models to ask in order, each one if the model before it fails before its first word.
    - `hedge_after_ms`: also ask the next fallback if no model has said a word after this time. The first model that
      speaks gives the answer.
    """
    if (given := _given_words(turn)) is not None:
        for at in range(0, len(given), _AT_ONCE):
            await turn.say(given[at : at + _AT_ONCE])
            await asyncio.sleep(0)  # a long text must not hold up every other call
        return {"route": "answered"}
    offered = await offered_tools(state, turn)
    prompt = list(state.get("prompt", ()))
    # A prompt that nobody has changed since this node built it may be out of date: the memory may know more now.
    own = not prompt or prompt == state.get("built")
    prompt = await first_prompt(state, turn) if own else prompt
    request = ChatRequest(
        messages=prompt,
        parameters=offered.parameters(turn, parameters or {}),
        own=frozenset(parameters or ()),
        model=upstream_model or turn.asked.model,
        api_key=turn.asked.api_key,
        passages=[passage.text for passage in state["passages"]] if "passages" in state else None,
        question=state.get("question", ""),
        environment=turn.environment,
    )
    models = [turn.services.model(name) for name in (model, *fallbacks)]
    if fallbacks:
        hedge = hedge_after_ms / 1000 if hedge_after_ms else None
        stream = stream_first(models, request, turn.stack, hedge)
    else:
        stream = models[0].stream(request, turn.stack)
    passages = state.get("passages", [])
    # A passage may ask the model to hang up, so a call of an undeclared tool must not reach the host.
    asked = OfferedCalls(offered, declared_tools(request.parameters) if passages else None)
    call = ModelCall(turn.place.step, model, prompt, request.parameters)
    answer = _Answer(call, keeps=offered.runs_tools or turn.watched)
    before = state.get("tail", "")
    apart = bool(before) and before.isascii() and not before.isspace()
    async with turn.asking(answer.call), aclosing(stream) as parts:
        time = answer.call.time
        time.upstream_model = request.model
        async for part in parts:
            if not time.first:
                time.first = turn.environment.now()
            if type(part) is Say:
                answer.hear_words(part.text)
                if apart:
                    apart = False
                    if not part.text[:1].isspace():
                        part = Say(f" {part.text}")  # separates it from what the model said before its tools ran
                await turn.emit(part)
                continue
            answer.hear(part)
            if isinstance(part, ToolCallPart):
                if (relayed := asked.keep(part)) is not None:
                    await turn.emit(relayed)
            elif not (isinstance(part, Finish) and (asked.kept or asked.refused)):
                await turn.emit(part)
    if answer.call.usage is None:
        await turn.emit(answer.estimated())
    if asked.refused:
        log.warning("a call of an undeclared tool was dropped", extra={"step": turn.place.step})
        if not turn.spoke and not asked.kept:
            raise ModelError("empty", f"The model {model!r} said nothing and called a tool that was not declared.")
    if asked.kept and not asked.calls and not turn.spoke:
        raise ModelError("empty", f"The model {model!r} said nothing and called tools that it may no longer use.")
    if asked.calls:
        await turn.line.flush_text()
    elif not asked.kept and await _is_silent(turn, answer) and not _may_be_silent(turn, answer):
        raise ModelError("empty", f"The model {model!r} finished without any words to speak.")
    sent = {"prompt": prompt, "built": prompt} if own else {}
    said = "".join(answer.call.said)
    return {"route": "answered", **sent, "tail": said[-1:] or before, **asked.update(said, answer.attached)}


class _Answer:
    """What the node must know of an answer when it has ended."""

    def __init__(self, call: ModelCall, *, keeps: bool) -> None:
        """Begin the answer to a call. `keeps`: store its words and what its provider attached, for the next prompt."""
        self.call = call
        self._keeps = keeps
        self._tokens = 0.0
        self.attached: dict[str, Any] = {}
        self.finish = ""
        self.only_words = True
        """Whether nothing but words was received for the caller to hear."""

    def hear_words(self, text: str) -> None:
        """Record these words of the model."""
        self._tokens += estimate(text)
        if self._keeps:
            self.call.said.append(text)

    def hear(self, part: Part) -> None:
        """Record this part of the answer."""
        if isinstance(part, Usage):
            self.call.usage = part
        elif isinstance(part, Finish):
            self.finish = part.reason
        elif isinstance(part, ToolCallPart):
            self.only_words = False
            self._tokens += estimate(f"{part.name or ''}{part.arguments}")
            self.call.add(part)
        elif isinstance(part, Relay):
            self.only_words = self.only_words and not part.audible
            if self._keeps:
                self._attach(part.delta)

    def _attach(self, delta: Mapping[str, Any]) -> None:
        for key, value in delta.items():
            before: Any = self.attached.get(key)
            if isinstance(before, str) and isinstance(value, str):
                value = before + value
            elif isinstance(before, list) and isinstance(value, list):
                value = [*before, *value]
            self.attached[key] = value

    def estimated(self) -> Usage:
        """Return the estimated usage, for a model that reported none."""
        return estimated_usage(self.call.messages, self._tokens)


async def _is_silent(turn: Turn, answer: _Answer) -> bool:
    """Return whether the caller hears nothing of the answer. Thoughts, marks and calls as text are not heard."""
    if not turn.spoke or not answer.only_words:
        return not turn.spoke
    if not turn.line.heard_words:
        await turn.line.flush_text(last=True)
    return not turn.line.heard_words


def _may_be_silent(turn: Turn, answer: _Answer) -> bool:
    """Return whether an empty answer is allowed: OpenAI clients understand a filtered answer, but a caller does not."""
    return answer.finish == "content_filter" and turn.profile.on_failure != "speak" and not turn.line.voiced


def _given_words(turn: Turn) -> str | None:
    """Return the words that the host wants spoken, or None. Agora sends greetings as a last assistant message."""
    last = turn.messages[-1] if turn.messages else {}
    if not turn.line.voiced or last.get("role") != "assistant":
        return None
    return text_of(last.get("content"))
