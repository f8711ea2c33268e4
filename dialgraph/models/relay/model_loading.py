"""Local servers that load a model at its first request, and stop loading when whoever asked has left.

One small request of ours makes the server load; every turn waits for that one, and none of them ends it by leaving.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dialgraph.models.errors import ModelError

_UNLOADED_SECONDS: Final = 240.0
"""After so long without an answer a server may have let go of the model (Ollama does after five minutes)."""


class Loading:
    """Of one server."""

    def __init__(self, name: str, seconds: float, ask: Callable[[float], Awaitable[None]]) -> None:
        """`ask`: sends the small request, with this deadline. Raises ModelError."""
        self._name = name
        self._seconds = seconds
        self._ask = ask
        self._task: asyncio.Task[None] | None = None
        self._answered_at = float("-inf")

    def answered(self) -> None:
        """The model is loaded."""
        self._answered_at = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Return when the model is loaded; at once if it has just answered. Raises ModelError."""
        if not self._seconds or asyncio.get_running_loop().time() - self._answered_at < _UNLOADED_SECONDS:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._load(), name=f"loading {self._name}")
        await asyncio.shield(self._task)

    async def _load(self) -> None:
        try:
            await self._ask(self._seconds)
        except TimeoutError:
            raise ModelError("timeout", f"The model {self._name!r} was not loaded in time.") from None
        self.answered()

    async def aclose(self) -> None:
        """Stop waiting."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()
