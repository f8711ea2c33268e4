"""Which models, stores and voices the names in graphs stand for."""

import os
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from dialgraph.meaning import EmbedderAddress, RerankerAddress
from dialgraph.models.port import ModelAddress
from dialgraph.speech.espeak import installed as espeak_installed
from dialgraph.speech.port import VoiceAddress
from dialgraph.speech.transcriber import TranscriberAddress

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the packages: a checkout, or the place of an install."""
DEFAULT_BASE_URL = "https://api.openai.com/v1"


def _from_url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


class GraphSettings(BaseSettings):
    """Read from the environment (`DIALGRAPH_…`), `.env` and `dialgraph.yaml`, in this order."""

    model_config = SettingsConfigDict(
        env_prefix="DIALGRAPH_",
        env_nested_delimiter="__",
        env_file=".env",
        env_file_encoding="utf-8",
        yaml_file="dialgraph.yaml",
        frozen=True,
        allow_inf_nan=False,
        extra="ignore",  # server.settings refuses unknown keys, with the nearest name
    )
    YAML: ClassVar[str] = "dialgraph.yaml"

    data_dir: Path = Field(default=Path("data"), description="The folder that everything lasting is kept in.")
    models: dict[str, Annotated[ModelAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Models by name: a URL, or url, model, api_key and deadlines in seconds."
        " `main` is `extractive:`, or with OPENAI_API_KEY or LLM_BASE_URL set the relay to that provider.",
    )
    stores: dict[str, str] = Field(
        default_factory=dict,
        description="Knowledge stores by name, as URLs: `faiss:`, `pgvector:` or `langchain:module:name`, with"
        " `?embedder=…&reranker=…`. `main` is `faiss:`, on PostgreSQL `pgvector:`.",
    )
    embedders: dict[str, Annotated[EmbedderAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Embedders by name: a URL, or url, model, api_key, counts and unrelated. `main` is `hashing:`,"
        " which needs no download.",
    )
    rerankers: dict[str, Annotated[RerankerAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Rerankers by name: the URL before `/rerank`, or url, model, api_key and seconds.",
    )
    voices: dict[str, Annotated[VoiceAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Voices by name: a URL, or url, model, voice, api_key, sample_rate and deadlines in seconds."
        " `main` is `espeak:` where the extra `espeak` is installed, else `tone:440`, which only hums.",
    )
    transcribers: dict[str, Annotated[TranscriberAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Who understands speech, by name: a URL, or url, model, language, api_key and deadlines in seconds."
        " With OPENAI_API_KEY or LLM_BASE_URL set `main` is that provider.",
    )
    database_url: SecretStr = Field(
        default=SecretStr("sqlite:"),
        description="Where rows are kept: `sqlite:` is a file in the data folder; `postgresql://…` needs psycopg.",
    )
    tool_servers: dict[str, str] = Field(
        default_factory=dict, description="MCP servers by name, as URLs, for the `servers` of `run_tools`; extra `mcp`."
    )
    sample_handbook: bool = Field(
        default=True,
        description="Whether a new store `main` begins with the handbook of a hotel, to try things out.",
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="OPENAI_API_KEY", description="The key of the model `main`."
    )
    llm_base_url: str = Field(
        default="",
        validation_alias="LLM_BASE_URL",
        description="The server of the model `main`; OpenAI's if empty.",
    )
    llm_model: str = Field(
        default="gpt-4o-mini",
        validation_alias="LLM_MODEL",
        description="The upstream's name of the model `main`, where a request names none.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The order of the sources; the first that has a key wins."""
        return init_settings, env_settings, dotenv_settings, YamlConfigSettingsSource(settings_cls)

    def model_addresses(self) -> dict[str, ModelAddress]:
        """Every model, `main` among them."""
        if self._has_provider:
            main = ModelAddress(self.llm_base_url or DEFAULT_BASE_URL, self.llm_model, self.openai_api_key)
        else:
            main = ModelAddress("extractive:")
        return {"main": main, **self.models}

    def store_urls(self) -> dict[str, str]:
        """Every store, `main` among them."""
        embedded = self.database_url.get_secret_value().startswith("sqlite")
        return {"main": "faiss:" if embedded else "pgvector:", **self.stores}

    def embedder_addresses(self) -> dict[str, EmbedderAddress]:
        """Every embedder, `main` among them."""
        return {"main": EmbedderAddress("hashing:"), **self.embedders}

    def voice_addresses(self) -> dict[str, VoiceAddress]:
        """Every voice, `main` among them."""
        return {"main": VoiceAddress("espeak:" if espeak_installed() else "tone:440"), **self.voices}

    def transcriber_addresses(self) -> dict[str, TranscriberAddress]:
        """Every transcriber; `main` among them where a provider is set."""
        if not self._has_provider:
            return self.transcribers
        main = TranscriberAddress(self.llm_base_url or DEFAULT_BASE_URL, api_key=self.openai_api_key)
        return {"main": main, **self.transcribers}

    @property
    def _has_provider(self) -> bool:
        """Whether the model `main` is a server that the environment names."""
        return bool(self.openai_api_key.get_secret_value() or self.llm_base_url)


def langgraph_file() -> Path:
    """Return the file that lists the endpoints.

    It is the one that DIALGRAPH_GRAPHS_FILE names, or else the checkout's; in an installed package, the one beside the
    endpoints.
    """
    if named := os.environ.get("DIALGRAPH_GRAPHS_FILE"):
        return Path(named)
    checkout = ROOT / "langgraph.json"
    return checkout if checkout.is_file() else ROOT / "graphs" / "langgraph.json"
