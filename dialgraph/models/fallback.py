"""Fallback models: the next one replaces the first or races it, as long as nothing has been spoken."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from dialgraph.models.errors import ModelError
from dialgraph.models.parts import Part
from dialgraph.models.port import ChatModel, ChatRequest

log = logging.getLogger(__name__)


class _Attempt:
    """A request to one model until its first audible part, with everything that the request opened."""

    def __init__(self, model: ChatModel, request: ChatRequest) -> None:
        self._stack = AsyncExitStack()
        self._parts = model.stream(request, self._stack)
        self.silent: list[Part] = []
        self.first = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for part in self._parts:
            self.silent.append(part)
            if part.audible:
                return

    async def rest(self) -> AsyncGenerator[Part, None]:
        """Yield the whole answer, from its first part."""
        for part in self.silent:
            yield part
        async for part in self._parts:
            yield part

    async def aclose(self) -> None:
        """Stop the request and close what it opened."""
        self.first.cancel()
        await asyncio.wait({self.first})
        if not self.first.cancelled():
            self.first.exception()
        await self._parts.aclose()
        await self._stack.aclose()


async def stream_first(
    models: Sequence[ChatModel], request: ChatRequest, stack: AsyncExitStack, hedge_after_seconds: float | None
) -> AsyncGenerator[Part, None]:
    """Yield the answer of the first model that sends an audible part.

    Ask the next model when one fails. With `hedge_after_seconds`, also ask it when no model has sent an audible part
    in that time. Raise the error of the last model that failed.
    """
    waiting = list(models)
    running: list[_Attempt] = []
    failure: ModelError | None = None

    def ask_next() -> None:
        # Another provider knows neither the client's key nor the first provider's model name.
        own = request if len(waiting) == len(models) else replace(request, api_key="", model="")
        attempt = _Attempt(waiting.pop(0), own)
        running.append(attempt)
        stack.push_async_callback(attempt.aclose)

    try:
        ask_next()
        while running:
            hedge = hedge_after_seconds if waiting else None
            done, _ = await asyncio.wait({one.first for one in running}, timeout=hedge, return_when="FIRST_COMPLETED")
            if not done:
                log.warning("a model was slow; the next one was asked too")
                ask_next()
                continue
            winner = next((one for one in running if one.first in done and one.first.exception() is None), None)
            if winner is not None:
                await asyncio.gather(*(one.aclose() for one in running if one is not winner))
                async with aclosing(winner.rest()) as parts:
                    async for part in parts:
                        yield part
                return
            for failed in [one for one in running if one.first in done]:
                running.remove(failed)
                error = failed.first.exception()
                await failed.aclose()
                if not isinstance(error, ModelError):
                    raise error or AssertionError("a failed task has no exception")
                failure = error
                log.warning("a model failed before its first word", extra={"kind": error.kind})
            if waiting and not running:
                ask_next()
        raise failure or AssertionError("no model was asked")
    finally:
        # A step's deadline also ends here, long before the turn's own stack is closed.
        for one in running:
            await one.aclose()
