"""The ChatModel port: what every engine takes and gives, and the table from URL scheme to engine."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast
from urllib.parse import urlsplit

from environment.environment import REAL, Environment
from models.answer import Part
from models.breaker import Breaker
from models.dialect import Rule
from models.errors import ModelError

Message = Mapping[str, object]
"""One OpenAI chat message as data: `{"role": …, "content": …}`."""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long an upstream may take, in seconds (ElevenLabs gives a turn up after 8, LiveKit after 10)."""

    connect: float = 3.0
    first_byte: float = 6.0
    idle: float = 8.0
    total: float = 120.0


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """Where a model is: what the settings say of one name."""

    url: str
    model: str = ""
    """The upstream's name of the model, where a request names none."""
    api_key: str = field(default="", repr=False)
    deadlines: Deadlines = Deadlines()
    away_seconds: float = 5.0
    """How long a server that was found away is not asked; 0: it is always asked."""
    extra_fields: tuple[str, ...] = ()
    """Fields of callers' requests that it is sent beside those that OpenAI documents."""
    load_seconds: float = 0.0
    """How long it may take to load the model; 0: it is always loaded."""
    thinks_first: bool = False
    """Whether its answers begin inside a thought, so that only `</think>` is seen."""
    ca_file: str = ""
    """Certificates of its authority, in PEM; empty: those of the system."""
    dialect: tuple[Rule, ...] = ()
    """What it takes or wants of messages beyond what every provider accepts; empty: as its host is known."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One question to a model."""

    messages: Sequence[Message]
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Every other field of the request: temperature, tools, response_format … An engine passes on what it knows."""
    own: frozenset[str] = frozenset()
    """Those of them that the graph's author has set: they go on whatever they are."""
    model: str = ""
    """The upstream's name of the model; empty: the settings' own."""
    api_key: str = field(default="", repr=False)
    """The caller's own key, where the server hands it on; empty: the settings' own."""
    passages: Sequence[str] | None = None
    """What retrieval found; None where nobody looked. Engines that read prompts ignore it: the prompt has it."""
    question: str = ""
    """What was searched for, where it is not the caller's last words."""
    environment: Environment = REAL
    """Of the run that asks."""


class ChatModel(Protocol):
    """Answers chats. An instance serves the whole process and is used by many turns at once."""

    @property
    def breaker(self) -> Breaker:
        """Knows whether it is there."""

    async def prewarm(self) -> None:
        """Do before the first call what would make it slow. Failing is allowed, and silent."""

    def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """The answer, part by part, ending with a Finish; ModelError if it does not come to one.

        What must be closed even if the reader stops half-way is put on `stack`.
        """

    async def aclose(self) -> None:
        """Give back every connection."""


ENGINES = {
    "extractive": "models.extractive:ExtractiveModel",
    "http": "models.relay:RelayModel",
    "https": "models.relay:RelayModel",
    "langchain": "models.langchain:LangChainModel",
}


def open_model(name: str, address: ModelAddress) -> ChatModel:
    """The engine that the address names. `name` is what settings and graphs call it; errors say it."""
    scheme = urlsplit(address.url).scheme
    if scheme not in ENGINES:
        hint = "" if "://" in address.url else " An address begins with http:// or https://."
        raise ValueError(f"model {name!r}: no engine for {scheme!r}. Accepted: {', '.join(sorted(ENGINES))}.{hint}")
    module, attribute = ENGINES[scheme].split(":")
    return cast(ChatModel, getattr(import_module(module), attribute)(name, address))


__all__ = [
    "ChatModel",
    "ChatRequest",
    "Deadlines",
    "Message",
    "ModelAddress",
    "ModelError",
    "Part",
    "open_model",
]
