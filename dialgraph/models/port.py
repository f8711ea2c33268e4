"""The ChatModel port: what every engine takes and gives, and the table from URL scheme to engine."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol, cast

import pydantic.dataclasses
from pydantic import Field, SecretStr

from dialgraph.engines import ADDRESS, LONGEST_SECONDS, engine_of
from dialgraph.environment import REAL, Environment
from dialgraph.models.breaker import Breaker
from dialgraph.models.errors import ModelError
from dialgraph.models.history.dialect import Rule
from dialgraph.models.parts import Part

Message = Mapping[str, object]
"""One OpenAI chat message as data: `{"role": …, "content": …}`."""


@pydantic.dataclasses.dataclass(frozen=True, slots=True, config=ADDRESS)
class ModelAddress:
    """Where a model is: the settings of one name. A string alone is its URL."""

    url: str
    """`https://…/v1` of any OpenAI-compatible server, `extractive:` or `langchain:openai`."""
    model: str = ""
    """The upstream's name of the model, for requests that name none."""
    api_key: SecretStr = SecretStr("")
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=6.0, gt=0, le=LONGEST_SECONDS)
    """Less than callers wait: ElevenLabs gives a turn up after 8 seconds, LiveKit after 10."""
    idle_seconds: float = Field(default=8.0, gt=0, le=LONGEST_SECONDS)
    total_seconds: float = Field(default=120.0, gt=0, le=LONGEST_SECONDS)
    away_seconds: float = Field(default=5.0, ge=0, le=LONGEST_SECONDS)
    """How long a server that was found to be away is not asked; 0: it is always asked."""
    extra_fields: tuple[str, ...] = ()
    """Fields of callers' requests that are sent upstream beside those that OpenAI documents."""
    load_seconds: float = Field(default=0.0, ge=0, le=LONGEST_SECONDS)
    """How long a local server may take to load the model; 0: it is always loaded."""
    thinks_first: bool = False
    """Whether answers begin inside a thought, so that only `</think>` is seen."""
    ca_file: str = ""
    """A PEM file with the certificates of the server's authority, beside the system's."""
    dialect: tuple[Rule, ...] = ()
    """Rules for messages beyond those that every provider accepts (docs/models.md); empty: as its host is known."""


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
    "extractive": "dialgraph.models.extractive:ExtractiveModel",
    "http": "dialgraph.models.relay.relay:RelayModel",
    "https": "dialgraph.models.relay.relay:RelayModel",
    "langchain": "dialgraph.models.langchain:LangChainModel",
}


def open_model(name: str, address: ModelAddress) -> ChatModel:
    """Return the engine that the address names. `name` is what settings, graphs and errors call it."""
    hint = "" if "://" in address.url else " An address begins with http:// or https://."
    engine = engine_of("model", name, address.url, ENGINES, f"{', '.join(sorted(ENGINES))}.{hint}")
    return cast(ChatModel, engine(name, address))


__all__ = [
    "ChatModel",
    "ChatRequest",
    "Message",
    "ModelAddress",
    "ModelError",
    "Part",
    "open_model",
]
