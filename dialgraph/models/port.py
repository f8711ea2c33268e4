"""The ChatModel port: the interface of every model engine, and the table from URL scheme to engine."""

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
    """The address of a model: the settings under one name. A string alone is its URL."""

    url: str
    """`https://…/v1` of any OpenAI-compatible server, `extractive:` or `langchain:openai`."""
    model: str = ""
    """The upstream's name of the model, for requests that do not name one."""
    api_key: SecretStr = SecretStr("")
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=6.0, gt=0, le=LONGEST_SECONDS)
    """Less than hosts wait: ElevenLabs gives up on a turn after 8 seconds, LiveKit after 10."""
    idle_seconds: float = Field(default=8.0, gt=0, le=LONGEST_SECONDS)
    total_seconds: float = Field(default=120.0, gt=0, le=LONGEST_SECONDS)
    away_seconds: float = Field(default=5.0, ge=0, le=LONGEST_SECONDS)
    """How long a server that is down is not asked again; 0: always ask."""
    extra_fields: tuple[str, ...] = ()
    """Fields of clients' requests that are sent upstream in addition to those that OpenAI documents."""
    load_seconds: float = Field(default=0.0, ge=0, le=LONGEST_SECONDS)
    """How long a local server may take to load the model; 0: the model is always loaded."""
    thinks_first: bool = False
    """Whether answers begin inside a thought, with `</think>` but without `<think>`."""
    ca_file: str = ""
    """A PEM file with additional CA certificates to trust for this server."""
    dialect: tuple[Rule, ...] = ()
    """Rules for messages in addition to the form that all providers accept (docs/models.md); empty: by host name."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One request to a model."""

    messages: Sequence[Message]
    parameters: Mapping[str, object] = field(default_factory=dict)
    """Every other field of the request: temperature, tools, response_format … An engine passes on those it knows."""
    own: frozenset[str] = frozenset()
    """The parameters that the graph's author has set. They are always passed on."""
    model: str = ""
    """The upstream's name of the model; empty: the one in the settings."""
    api_key: str = field(default="", repr=False)
    """The client's own key, if the server passes it on; empty: the one in the settings."""
    passages: Sequence[str] | None = None
    """The passages that were found; None: nothing was searched. Engines that read prompts ignore it."""
    question: str = ""
    """The text that was searched for, if it is not the caller's last words."""
    environment: Environment = REAL
    """The environment of the run that asks."""


class ChatModel(Protocol):
    """Answers chat requests. One instance serves the whole process; many turns use it at the same time."""

    @property
    def breaker(self) -> Breaker:
        """Return the breaker, which knows whether the model's server is up."""

    async def prewarm(self) -> None:
        """Do in advance what would slow down the first call. A failure raises nothing."""

    def stream(self, request: ChatRequest, stack: AsyncExitStack) -> AsyncGenerator[Part, None]:
        """Yield the answer, part by part; the last part is a Finish. Raise ModelError if the answer fails.

        Put everything on `stack` that must be closed even if the reader stops in the middle.
        """

    async def aclose(self) -> None:
        """Close every connection."""


ENGINES = {
    "extractive": "dialgraph.models.extractive:ExtractiveModel",
    "http": "dialgraph.models.relay.relay:RelayModel",
    "https": "dialgraph.models.relay.relay:RelayModel",
    "langchain": "dialgraph.models.langchain:LangChainModel",
}


def open_model(name: str, address: ModelAddress) -> ChatModel:
    """Return the engine for the address. `name` is its name in settings, graphs and errors."""
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
