"""What the settings say of one engine: a model, an embedder, a reranker, a voice or a transcriber."""

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from knowledge.embed import EmbedderAddress
from knowledge.rerank import RerankerAddress
from models.dialect import Rule
from models.port import Deadlines, ModelAddress
from speech.port import Deadlines as SpeechDeadlines
from speech.port import VoiceAddress
from speech.transcriber import TranscriberAddress

LONGEST_SECONDS = 24 * 3600
"""Of any deadline."""


class ModelSettings(BaseModel):
    """Where a model is. A text alone is its URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    """`https://…/v1` of any OpenAI-compatible server, `extractive:` or `langchain:openai`."""
    model: str = ""
    """The upstream's name of the model, where a request names none."""
    api_key: SecretStr = SecretStr("")
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=6.0, gt=0, le=LONGEST_SECONDS)
    idle_seconds: float = Field(default=8.0, gt=0, le=LONGEST_SECONDS)
    total_seconds: float = Field(default=120.0, gt=0, le=LONGEST_SECONDS)
    away_seconds: float = Field(default=5.0, ge=0, le=LONGEST_SECONDS)
    """How long a server that was found away is not asked; 0: it is always asked."""
    extra_fields: tuple[str, ...] = ()
    """Fields of callers' requests that the server is sent beside those that OpenAI documents."""
    load_seconds: float = Field(default=0.0, ge=0, le=LONGEST_SECONDS)
    """How long a local server may take to load the model; 0: it is always loaded."""
    thinks_first: bool = False
    """Whether answers begin inside a thought, so that only `</think>` is seen."""
    ca_file: str = ""
    """Certificates of the server's authority, in PEM, beside the system's."""
    dialect: tuple[Rule, ...] = ()
    """Rules for messages beyond those that every provider accepts (docs/models.md)."""

    def address(self) -> ModelAddress:
        """As `models/` takes it."""
        deadlines = Deadlines(self.connect_seconds, self.first_byte_seconds, self.idle_seconds, self.total_seconds)
        return ModelAddress(
            self.url, self.model, self.api_key.get_secret_value(), deadlines, self.away_seconds,
            self.extra_fields, self.load_seconds, self.thinks_first, self.ca_file, self.dialect,
        )  # fmt: skip


class EmbedderSettings(BaseModel):
    """Where an embedder is. A text alone is its URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    """`hashing:`, `https://…/v1` of any OpenAI-compatible server, `langchain:openai` or `onnx:FOLDER`."""
    model: str = ""
    """The server's name of the model."""
    api_key: SecretStr = SecretStr("")
    counts: float = Field(default=0.0, ge=0)
    """What full similarity adds to a passage's score, where 1 is all that was asked; 0: the engine's own."""
    unrelated: float | None = Field(default=None, ge=-1, lt=1)
    """The similarity that texts about different things usually have."""

    def address(self) -> EmbedderAddress:
        """As `knowledge/` takes it."""
        return EmbedderAddress(self.url, self.model, self.api_key.get_secret_value(), self.counts, self.unrelated)


class RerankerSettings(BaseModel):
    """Where a reranker is. A text alone is its URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    """What stands before `/rerank`."""
    model: str = ""
    api_key: SecretStr = SecretStr("")
    seconds: float = Field(default=1.0, gt=0, le=LONGEST_SECONDS)
    """After which a search goes on without it."""

    def address(self) -> RerankerAddress:
        """As `knowledge/` takes it."""
        return RerankerAddress(self.url, self.model, self.api_key.get_secret_value(), self.seconds)


class VoiceSettings(BaseModel):
    """Where a voice is. A text alone is its URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    """`espeak:`, `tone:440`, or `https://…/v1` of any server with an OpenAI-style `/audio/speech`."""
    model: str = ""
    """The server's name of the model."""
    voice: str = ""
    """The usual voice, by the engine's name."""
    api_key: SecretStr = SecretStr("")
    sample_rate: int = Field(default=24_000, ge=8_000, le=48_000)
    """Of a server's raw PCM, which does not tell it."""
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=5.0, gt=0, le=LONGEST_SECONDS)
    idle_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)

    def address(self) -> VoiceAddress:
        """As `speech/` takes it."""
        deadlines = SpeechDeadlines(self.connect_seconds, self.first_byte_seconds, self.idle_seconds)
        return VoiceAddress(
            self.url, self.model, self.voice, self.api_key.get_secret_value(), self.sample_rate, deadlines
        )


class TranscriberSettings(BaseModel):
    """Where speech is understood. A text alone is its URL."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    url: str
    """`https://…/v1` of any server with an OpenAI-style `/audio/transcriptions`."""
    model: str = ""
    language: str = ""
    """What callers speak, as ISO 639-1 has it; empty: the server listens for itself."""
    api_key: SecretStr = SecretStr("")
    connect_seconds: float = Field(default=3.0, gt=0, le=LONGEST_SECONDS)
    first_byte_seconds: float = Field(default=5.0, gt=0, le=LONGEST_SECONDS)

    def address(self) -> TranscriberAddress:
        """As `speech/` takes it."""
        deadlines = SpeechDeadlines(self.connect_seconds, self.first_byte_seconds)
        return TranscriberAddress(self.url, self.model, self.language, self.api_key.get_secret_value(), deadlines)
