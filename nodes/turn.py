"""One turn, as a node sees it: who asks, what was said, what may be used, and the line to the caller."""

import copy
from collections.abc import Mapping, MutableMapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from knowledge.store import Store
from models.port import ChatModel, Message
from models.question import last_user_text
from nodes.call import Call
from nodes.events import Event, Say
from nodes.line import Line
from speech.port import Voice


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
        self.line = Line(keeps_words=keeps_messages)
        self.step = ""
        self.offered: Mapping[str, tuple[str, Mapping[str, Any]]] = {}
        """Tools of the steps that this step's table leads to: tool name → (route, tool)."""
        self.spoke = False
        """Whether this step has reached the caller's ear."""

    async def emit(self, event: Event) -> None:
        """Say it. Returns when the reader has room for more."""
        if event.audible:
            self.spoke = True
            if isinstance(event, Say):
                self.line.answered = True
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
        try:
            await self.line.aclose()
        finally:
            await self.stack.aclose()
