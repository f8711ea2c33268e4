"""One turn, as a node sees it: who asks, what was said, and the line to the caller's ear."""

import asyncio
import copy
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from knowledge.store import Store
from models.port import ChatModel, Message
from models.question import last_user_text
from nodes.call import Call
from nodes.events import Event, Say
from speech.port import Voice

Sink = Callable[[Event], Awaitable[None]]
"""Where events end: our queue when we serve, LangGraph's stream writer in Studio and notebooks."""


class Outlet(Protocol):
    """A stage between the nodes and the sink that may hold words back and turn them into something else."""

    async def push(self, event: Event) -> None:
        """Take one event; give on what is ready."""

    async def flush(self) -> None:
        """Give on everything that is held back, and return when the sink has it."""

    async def aclose(self) -> None:
        """Stop at once; what is held back is lost."""


class Services(Protocol):
    """What the names in a graph stand for; opened at the first use."""

    def model(self, name: str) -> ChatModel:
        """The model of that name."""

    def store(self, name: str) -> Store:
        """The knowledge store of that name."""

    def voice(self, name: str) -> Voice:
        """The voice of that name."""

    def recording(self, name: str) -> Path:
        """The path of a file in the folder of recordings."""

    @property
    def phrases(self) -> MutableMapping[tuple[str, str], str]:
        """The acknowledgement last used in each call, by principal and call id; old calls are forgotten."""


@dataclass
class Context:
    """What Studio shows as a run's context; JSON values only."""

    model: str = field(
        default="", metadata={"description": "The upstream's name of the model; empty: the settings' own."}
    )
    call_id: str = field(default="", metadata={"description": "The host's id of the call."})


async def _nowhere(event: Event) -> None:
    raise RuntimeError("A turn speaks only while its graph runs.")


class Line:
    """The one line to the caller, shared by all steps of a turn."""

    def __init__(self) -> None:
        self.spoken = False
        self.voiced = False
        """Whether words leave as sound of ours; then no model is asked for its own."""
        self.words: list[str] = []
        self.started = time.perf_counter()
        self.sink: Sink = _nowhere
        """Where it ends; set before the first step runs."""
        self._outlet: Outlet | None = None
        self._timers: list[asyncio.TimerHandle] = []
        self._late: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        """Whether it leads anywhere yet."""
        return self.sink is not _nowhere

    async def send(self, event: Event) -> None:
        """Pass one event through the outlets to the sink."""
        if event.audible:
            if not self.spoken:
                self.spoken = True
                self.stop_timers()
            if isinstance(event, Say):
                self.words.append(event.text)
        if self._outlet is None:
            await self.sink(event)
        else:
            await self._outlet.push(event)

    def attach(self, make: Callable[[Sink], Outlet]) -> None:
        """Put an outlet in front of what the line ends in now."""
        self._outlet = make(self.sink if self._outlet is None else self._outlet.push)

    def after(self, seconds: float, speak: Callable[[], Awaitable[None]]) -> None:
        """Speak then, unless something has been spoken before."""

        def fire() -> None:
            async def say() -> None:
                if not self.spoken:
                    await speak()

            task = asyncio.ensure_future(say())
            self._late.add(task)
            task.add_done_callback(self._late.discard)

        if not self.spoken:
            self._timers.append(asyncio.get_running_loop().call_later(seconds, fire))

    def stop_timers(self) -> None:
        """Nothing that was to be said later will be."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    async def drain(self) -> None:
        """Stop the timers and wait until the sink has everything."""
        self.stop_timers()
        if self._late:
            await asyncio.gather(*self._late)
        if self._outlet is not None:
            await self._outlet.flush()

    async def aclose(self) -> None:
        """Stop at once: timers, what they started, and outlets."""
        self.stop_timers()
        for task in list(self._late):
            task.cancel()
        if self._outlet is not None:
            await self._outlet.aclose()

    def elapsed_ms(self) -> float:
        """Since the turn began."""
        return (time.perf_counter() - self.started) * 1000


class Turn(Context):
    """What a node is given beside the state. Every step sees its own, and all share one line."""

    def __init__(
        self,
        *,
        services: Services,
        messages: Sequence[Message] = (),
        request: Mapping[str, object] | None = None,
        call: Call | None = None,
        model: str = "",
        api_key: str = "",
        streaming: bool = True,
        keeps_messages: bool = False,
    ) -> None:
        super().__init__(model=model, call_id=call.id if call else "")
        self.services = services
        self.messages = messages
        """As the caller sent them: no LangChain class has touched them."""
        self.request = request or {}
        """The request's other fields that are meant for a model."""
        self.call = call or Call()
        self.api_key = api_key
        """The caller's own upstream key, when the server hands it on."""
        self.streaming = streaming
        self.keeps_messages = keeps_messages
        """Whether the turn ends with an assistant message in the state: in Studio and notebooks."""
        self.stack = AsyncExitStack()
        """What must be closed when the turn ends, however it ends."""
        self.line = Line()
        self.step = ""
        self.offered: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
        """Tools of the steps that this step's table leads to: tool name → (route, tool)."""
        self.spoke = False
        """Whether this step has reached the caller's ear."""

    async def emit(self, event: Event) -> None:
        """Say it. Returns when the reader has room for more."""
        if event.audible:
            self.spoke = True
        await self.line.send(event)

    async def say(self, text: str) -> None:
        """Speak these words."""
        if text:
            await self.emit(Say(text))

    @property
    def question(self) -> str:
        """The last user text, in whatever form the message has."""
        return last_user_text(self.messages)

    def wants(self, modality: str) -> bool:
        """Whether the request's `modalities` ask for it; absent means that the endpoint decides, so yes."""
        modalities = self.request.get("modalities")
        return not isinstance(modalities, Sequence) or not modalities or modality in modalities

    def at_step(self, step: str, offered: Mapping[str, tuple[str, Mapping[str, Any]]]) -> "Turn":
        """This turn as one step sees it."""
        view = copy.copy(self)
        view.step, view.offered, view.spoke = step, offered, False
        return view

    async def aclose(self) -> None:
        """Stop whatever still runs for this turn and close what it opened."""
        await self.line.aclose()
        await self.stack.aclose()
