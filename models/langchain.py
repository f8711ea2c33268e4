"""Any LangChain chat model as ours; `langchain:openai` is ChatOpenAI. Slower by far than the relay (docs/decisions)."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, convert_to_messages

from models.answer import Finish, Part, Relay, Say, ToolCallPart, Usage
from models.errors import Kind, ModelError
from models.port import ChatRequest, ModelAddress

_KINDS: dict[int, Kind] = {
    400: "rejected", 401: "unauthorized", 403: "unauthorized", 404: "not_found",
    422: "rejected", 429: "rate_limited", 503: "unavailable",
}  # fmt: skip


def _chat_openai(address: ModelAddress, request: ChatRequest) -> BaseChatModel:
    from langchain_openai import ChatOpenAI  # half a second of imports, for those who use it

    parts = urlsplit(address.url)
    settings: dict[str, Any] = {
        "model": request.model or address.model or "gpt-4o-mini",
        "api_key": request.api_key or address.api_key or "none",
        "max_retries": 0,
        "timeout": address.deadlines.first_byte,
        "stream_usage": True,
    }
    if parts.query.startswith("base_url="):
        settings["base_url"] = parts.query.removeprefix("base_url=")
    return ChatOpenAI(**settings)


FAMILIES: dict[str, Callable[[ModelAddress, ChatRequest], BaseChatModel]] = {"openai": _chat_openai}


class LangChainModel:
    """A family of LangChain chat models, or one model that is handed over (notebooks, tests)."""

    def __init__(self, name: str, address: ModelAddress, model: BaseChatModel | None = None) -> None:
        self._name = name
        self._address = address
        self._model = model
        self._family = urlsplit(address.url).path
        self._built: dict[tuple[str, str], BaseChatModel] = {}
        if model is None and self._family not in FAMILIES:
            raise ValueError(
                f"model {name!r}: no LangChain family {self._family!r}. Accepted: {', '.join(sorted(FAMILIES))}."
            )

    async def prewarm(self) -> None:
        """Pay for the imports before the first call does."""
        self._chat_model(ChatRequest(()))

    async def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """See the port. Messages pass through LangChain's classes: what those refuse, they refuse here too."""
        parameters = {key: value for key, value in request.parameters.items() if key != "stream_options"}
        answered, finish = False, None
        try:
            messages = convert_to_messages([dict(message) for message in request.messages])
            async for chunk in self._chat_model(request).astream(messages, **cast(Mapping[str, Any], parameters)):
                for part in _parts(chunk):
                    answered = answered or part.audible
                    yield part
                finish = chunk.response_metadata.get("finish_reason") or finish
        except TimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} took too long to answer.") from error
        except Exception as error:  # each integration raises its own classes; the status is what they share
            status = getattr(error, "status_code", None)
            kind = _KINDS.get(status, "failed") if isinstance(status, int) else "failed"
            raise ModelError(kind, f"The model {self._name!r} failed.") from error
        if not answered:
            raise ModelError("empty", f"The model {self._name!r} finished without a word.")
        if finish is None and self._model is None:
            raise ModelError("incomplete", f"The model {self._name!r} stopped in the middle of its answer.")
        yield Finish(finish or "stop")

    async def aclose(self) -> None:
        """LangChain's models hold no connections that they let be closed."""

    def _chat_model(self, request: ChatRequest) -> BaseChatModel:
        if self._model is not None:
            return self._model
        key = (request.model, request.api_key)
        if key not in self._built:
            self._built = {
                **dict(list(self._built.items())[-63:]),
                key: FAMILIES[self._family](self._address, request),
            }
        return self._built[key]


def _parts(chunk: AIMessageChunk) -> list[Part]:
    parts: list[Part] = []
    if text := str(chunk.text):
        parts.append(Say(text))
    if reasoning := chunk.additional_kwargs.get("reasoning_content"):
        parts.append(Relay({"reasoning_content": reasoning}))
    for call in chunk.tool_call_chunks:
        first = bool(call.get("name"))
        identity = (call.get("id") or f"call_{uuid4().hex[:24]}") if first else None
        parts.append(ToolCallPart(call.get("index") or 0, identity, call.get("name") or None, call.get("args") or ""))
    if usage := chunk.usage_metadata:
        parts.append(Usage(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]))
    return parts
