"""Any LangChain chat model as a ChatModel; `langchain:openai` is ChatOpenAI. Much slower than the relay
(docs/decisions).
"""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Any, cast
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessageChunk, convert_to_messages

from dialgraph.environment import Environment
from dialgraph.http_client import kind_of_status
from dialgraph.models.breaker import Breaker
from dialgraph.models.errors import ModelError
from dialgraph.models.history.accept import accepted
from dialgraph.models.parts import Finish, Part, Relay, Say, ToolCallPart, Usage
from dialgraph.models.port import ChatRequest, ModelAddress
from dialgraph.models.request_fields import passed_on


class OpenAIFamily:
    """ChatOpenAI models over our own connection pool. LangChain's pool belongs to the process and is never closed."""

    def __init__(self, address: ModelAddress) -> None:
        from openai import DefaultAsyncHttpxClient  # importing takes half a second, so only import it when used

        self._address = address
        self._client = DefaultAsyncHttpxClient()

    def model(self, request: ChatRequest) -> BaseChatModel:
        """Return the model for one request. It is cheap, because the connections are shared."""
        from langchain_openai import ChatOpenAI

        settings: dict[str, Any] = {
            "model": request.model or self._address.model or "gpt-4o-mini",
            "api_key": request.api_key or self._address.api_key.get_secret_value() or "none",
            "max_retries": 0,
            "timeout": self._address.first_byte_seconds,
            "stream_usage": True,
            "http_async_client": self._client,
        }
        query = urlsplit(self._address.url).query
        if query.startswith("base_url="):
            settings["base_url"] = query.removeprefix("base_url=")
        return ChatOpenAI(**settings)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


FAMILIES: dict[str, Callable[[ModelAddress], OpenAIFamily]] = {"openai": OpenAIFamily}


class LangChainModel:
    """A family of LangChain chat models, or one model that is passed in (notebooks, tests)."""

    def __init__(self, name: str, address: ModelAddress, model: BaseChatModel | None = None) -> None:
        self._name = name
        self._address = address
        self._model = model
        self._opened: OpenAIFamily | None = None
        self.breaker = Breaker(name, address.away_seconds)
        self._family = urlsplit(address.url).path
        if model is None and self._family not in FAMILIES:
            raise ValueError(
                f"model {name!r}: unknown LangChain family {self._family!r}. Accepted: {', '.join(sorted(FAMILIES))}."
            )

    async def prewarm(self) -> None:
        """Import the libraries before the first call needs them."""
        self._chat_model(ChatRequest(()))

    async def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """Yield the model's answer. Messages pass through LangChain's classes, which refuse some histories."""
        with self.breaker.attempt() as attempt:
            async with aclosing(self._answer(request)) as parts:
                async for part in parts:
                    attempt.answered()
                    yield part

    async def _answer(self, request: ChatRequest) -> AsyncGenerator[Part, None]:
        parameters = passed_on(request.parameters, request.own.union(self._address.extra_fields))
        answered, finish = False, None
        try:
            messages = convert_to_messages([dict(one) for one in accepted(request.messages, self._address.dialect)])
            async for chunk in self._chat_model(request).astream(messages, **cast(Mapping[str, Any], parameters)):
                for part in _parts(chunk, request.environment):
                    answered = answered or part.audible
                    yield part
                finish = chunk.response_metadata.get("finish_reason") or finish
        except TimeoutError as error:
            raise ModelError("timeout", f"The model {self._name!r} took too long to answer.") from error
        except Exception as error:  # each integration raises its own classes, but most have a status
            status = getattr(error, "status_code", None)
            kind = kind_of_status(status) if isinstance(status, int) else "failed"
            if "Timeout" in type(error).__name__:  # openai's class is not a TimeoutError
                kind = "timeout"
            raise ModelError(kind, f"The model {self._name!r} failed.") from error
        if not answered:
            raise ModelError("empty", f"The model {self._name!r} returned an empty answer.")
        if finish is None and self._model is None:
            raise ModelError("incomplete", f"The model {self._name!r} stopped in the middle of its answer.")
        yield Finish(finish or "stop")

    async def aclose(self) -> None:
        """Close the connections, if any are open."""
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    def _chat_model(self, request: ChatRequest) -> BaseChatModel:
        if self._model is not None:
            return self._model
        if self._opened is None:
            self._opened = FAMILIES[self._family](self._address)
        return self._opened.model(request)


def _parts(chunk: AIMessageChunk, environment: Environment) -> list[Part]:
    parts: list[Part] = []
    if text := str(chunk.text):
        parts.append(Say(text))
    if reasoning := chunk.additional_kwargs.get("reasoning_content"):
        parts.append(Relay({"reasoning_content": reasoning}))
    for call in chunk.tool_call_chunks:
        first = bool(call.get("name"))
        identity = (call.get("id") or environment.id("call_", 24)) if first else None
        parts.append(ToolCallPart(call.get("index") or 0, identity, call.get("name") or None, call.get("args") or ""))
    if usage := chunk.usage_metadata:
        parts.append(Usage(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]))
    return parts
