"""Reports the calls of models to LangChain's callbacks, so that a trace shows them as calls of a model."""

import logging
from collections.abc import Sequence
from typing import Any, cast

import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, convert_to_messages
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables.config import get_async_callback_manager_for_config
from langgraph.config import get_config
from langgraph.constants import TAG_NOSTREAM

from dialgraph.models.port import Message
from dialgraph.turn.watching import ModelCall, Watcher

log = logging.getLogger(__name__)


class ModelTracer(Watcher):
    """Reports each call of a model as a run of a chat model."""

    def __init__(self) -> None:
        self._runs: dict[int, AsyncCallbackManagerForLLMRun] = {}

    async def asked(self, call: ModelCall) -> None:
        """Begin the run of this call. What the caller hears is streamed elsewhere, so the run streams no words."""
        manager = get_async_callback_manager_for_config(get_config())
        manager.add_tags([TAG_NOSTREAM], inherit=False)
        manager.add_metadata({"ls_provider": "dialgraph", "ls_model_name": call.model}, inherit=False)
        what = {"name": call.model, "id": ["dialgraph", "models", call.model]}
        runs = await manager.on_chat_model_start(
            what, [_messages(call.messages)], name=call.model, invocation_params=dict(call.parameters)
        )
        self._runs[id(call)] = runs[0]

    async def answered(self, call: ModelCall, error: BaseException | None) -> None:
        """End the run of this call, with its raw words, its tool calls and its usage."""
        run = self._runs.pop(id(call), None)
        if run is None:
            return
        if error is not None:
            await run.on_llm_error(error)
            return
        usage: Any = None
        if call.usage is not None:
            usage = {
                "input_tokens": call.usage.prompt_tokens,
                "output_tokens": call.usage.completion_tokens,
                "total_tokens": call.usage.total_tokens,
            }
        asked = [tool_call(**one) for one in call.tool_calls.values()]
        answer = AIMessage("".join(call.said), tool_calls=asked, usage_metadata=usage)
        await run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=answer)]]))


def tool_call(id: str, name: str, arguments: str) -> ToolCall:  # noqa: A002 (the name in LangChain)
    """Return a call of a tool in LangChain's form. Arguments that are no JSON object are kept as a text."""
    try:
        read = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        read = arguments
    return ToolCall(name=name, args=read if isinstance(read, dict) else {"arguments": read}, id=id, type="tool_call")


def _messages(messages: Sequence[Message]) -> list[BaseMessage]:
    """Return the messages for the trace. LangChain refuses some that providers accept; these are shown as JSON."""
    try:
        return convert_to_messages(cast(Any, messages))
    except Exception:  # noqa: BLE001 (LangChain raises several kinds; a trace must not end a turn)
        return [HumanMessage(orjson.dumps(list(messages), default=str).decode())]
