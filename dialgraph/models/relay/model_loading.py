"""Local servers that load a model at its first request, and stop loading if the client disconnects.

One small request of our own makes the server load. Every turn waits for that request, and a turn that ends does not
cancel it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from dialgraph.models.errors import ModelError

_UNLOADED_SECONDS: Final = 240.0
"""After this time without an answer, a server may have unloaded the model (Ollama does after five minutes)."""


class Loading:
    """The loading state of one server."""

    def __init__(self, name: str, seconds: float, ask: Callable[[float], Awaitable[None]]) -> None:
        """`ask` sends the small request, with the deadline that it is given. It raises ModelError."""
        self._name = name
        self._seconds = seconds
        self._ask = ask
        self._task: asyncio.Task[None] | None = None
        self._answered_at = float("-inf")

    def answered(self) -> None:
        """Record that the model is loaded."""
        self._answered_at = asyncio.get_running_loop().time()

    async def wait(self) -> None:
        """Return when the model is loaded; immediately if it answered recently. Raise ModelError."""
        if not self._seconds or asyncio.get_running_loop().time() - self._answered_at < _UNLOADED_SECONDS:
            return
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._load(), name=f"loading {self._name}")
        await asyncio.shield(self._task)

    async def _load(self) -> None:
        try:
            await self._ask(self._seconds)
        except TimeoutError:
            raise ModelError("timeout", f"The model {self._name!r} did not load in time.") from None
        self.answered()

    async def aclose(self) -> None:
        """Stop loading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            if not self._task.cancelled():
                self._task.exception()
