"""The settings that define the models, stores, voices and other names in graphs."""

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from dialgraph.meaning import EmbedderAddress, RerankerAddress
from dialgraph.models.port import ModelAddress
from dialgraph.project import in_project
from dialgraph.speech.espeak import installed as espeak_installed
from dialgraph.speech.port import VoiceAddress
from dialgraph.speech.transcriber import TranscriberAddress
from dialgraph.validation import nearest

DEFAULT_BASE_URL = "https://api.openai.com/v1"


def _from_url(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


def _checked_record(value: str) -> str:
    """Return a valid setting `record`. Raise ValueError."""
    if value in ("", "never", "all", "failures", "slow"):
        return value
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError("must be 'all', 'failures', 'slow', 'never', empty, or a share from 0 to 1 such as '0.1'")
    return value


class GraphSettings(BaseSettings):
    """The settings that graphs need, read from the environment (`DIALGRAPH_…`), and from `.env` and `dialgraph.yaml` in
    the project. The first of these places that has a setting wins.
    """

    model_config = SettingsConfigDict(
        env_prefix="DIALGRAPH_",
        env_nested_delimiter="__",
        frozen=True,
        allow_inf_nan=False,
        extra="ignore",  # server.settings refuses unknown keys and suggests the nearest name
    )
    YAML: ClassVar[str] = "dialgraph.yaml"

    data_dir: Annotated[Path, AfterValidator(in_project)] = Field(
        default=Path("data"),
        validate_default=True,
        description="The folder for everything that the server stores. A relative path begins at the project.",
    )
    models: dict[str, Annotated[ModelAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Models by name. Each is a URL, or a table with url, model, api_key and deadlines in seconds."
        " Default of `main`: the provider in OPENAI_API_KEY or LLM_BASE_URL, or `extractive:` if neither is set.",
    )
    stores: dict[str, str] = Field(
        default_factory=dict,
        description="Stores by name. Each is a URL: `faiss:`, `pgvector:` or `langchain:module:name`, optionally with"
        " `?embedder=…&reranker=…`. Default of `main`: `faiss:`, or `pgvector:` if the database is PostgreSQL.",
    )
    embedders: dict[str, Annotated[EmbedderAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Embedders by name. Each is a URL, or a table with url, model, api_key, counts and unrelated."
        " Default of `main`: `hashing:`, which needs no download.",
    )
    rerankers: dict[str, Annotated[RerankerAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Rerankers by name. Each is the URL before `/rerank`, or a table with url, model, api_key and"
        " seconds.",
    )
    voices: dict[str, Annotated[VoiceAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Voices by name. Each is a URL, or a table with url, model, voice, api_key, sample_rate and"
        " deadlines in seconds. Default of `main`: `espeak:` if the extra `espeak` is installed, otherwise `tone:440`,"
        " which only hums.",
    )
    transcribers: dict[str, Annotated[TranscriberAddress, BeforeValidator(_from_url)]] = Field(
        default_factory=dict,
        description="Transcribers by name. Each is a URL, or a table with url, model, language, api_key and deadlines"
        " in seconds. Default of `main`: the provider in OPENAI_API_KEY or LLM_BASE_URL; none if neither is set.",
    )
    database_url: SecretStr = Field(
        default=SecretStr("sqlite:"),
        description="The database. `sqlite:` is a file in the data folder. `postgresql://…` needs psycopg.",
    )
    tool_servers: dict[str, str] = Field(
        default_factory=dict,
        description="MCP servers by name, as URLs, for the `servers` of `run_tools`. Needs the extra `mcp`.",
    )
    sample_handbook: bool = Field(
        default=True,
        description="Whether a new store `main` contains the handbook of a sample hotel, to try things out.",
    )
    record: Annotated[str, AfterValidator(_checked_record)] = Field(
        default="",
        description="Which turns are recorded (docs/records.md): `all`, `failures`, `slow` (and failures), a share of"
        " the calls such as `0.1`, or `never`. Empty: only calls with the header `x-dialgraph-record: true`.",
    )
    record_slow_ms: int = Field(
        default=2000, ge=0, description="A turn is slow if its first word comes after this many milliseconds."
    )
    record_days: int = Field(default=7, ge=1, le=3650, description="How many days records are kept.")
    record_mb: int = Field(
        default=1024, ge=1, le=2**20, description="The most disk space of all records, in MB. The oldest days go first."
    )
    call_idle_minutes: int = Field(
        default=10, ge=1, le=1440, description="After this many minutes without a turn, a recorded call has ended."
    )
    record_sound: bool = Field(
        default=False, description="Whether records contain the sound itself, and not only its length and hash."
    )
    openai_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias="OPENAI_API_KEY", description="The API key of the model `main`."
    )
    llm_base_url: str = Field(
        default="",
        validation_alias="LLM_BASE_URL",
        description="The base URL of the model `main`. Empty: OpenAI.",
    )
    llm_model: str = Field(
        default="gpt-4o-mini",
        validation_alias="LLM_MODEL",
        description="The upstream's name of the model `main`. Used for requests that do not name a model.",
    )

    def __init__(self, **given: Any) -> None:
        """Read the settings; `given` overrides the other sources. Raise TypeError for an unknown name."""
        fields = type(self).model_fields
        known = {*fields, *(str(one.validation_alias) for one in fields.values() if one.validation_alias)}
        for name in given:
            if name not in known and not name.startswith("_"):
                raise TypeError(f"{type(self).__name__} has no setting {name!r}. {nearest(name, [*fields])}".rstrip())
        super().__init__(**given)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources in their order. The first source that has a key wins."""
        dotenv = DotEnvSettingsSource(settings_cls, env_file=in_project(Path(".env")), env_file_encoding="utf-8")
        yaml = YamlConfigSettingsSource(settings_cls, yaml_file=in_project(Path(cls.YAML)))
        return init_settings, env_settings, dotenv, yaml

    def model_addresses(self) -> dict[str, ModelAddress]:
        """Return every model by name, including `main`."""
        if self._has_provider:
            main = ModelAddress(self.llm_base_url or DEFAULT_BASE_URL, self.llm_model, self.openai_api_key)
        else:
            main = ModelAddress("extractive:")
        return {"main": main, **self.models}

    def store_urls(self) -> dict[str, str]:
        """Return the URL of every store by name, including `main`."""
        embedded = self.database_url.get_secret_value().startswith("sqlite")
        return {"main": "faiss:" if embedded else "pgvector:", **self.stores}

    def embedder_addresses(self) -> dict[str, EmbedderAddress]:
        """Return every embedder by name, including `main`."""
        return {"main": EmbedderAddress("hashing:"), **self.embedders}

    def voice_addresses(self) -> dict[str, VoiceAddress]:
        """Return every voice by name, including `main`."""
        return {"main": VoiceAddress("espeak:" if espeak_installed() else "tone:440"), **self.voices}

    def transcriber_addresses(self) -> dict[str, TranscriberAddress]:
        """Return every transcriber by name. `main` is included if a provider is set."""
        if not self._has_provider:
            return self.transcribers
        main = TranscriberAddress(self.llm_base_url or DEFAULT_BASE_URL, api_key=self.openai_api_key)
        return {"main": main, **self.transcribers}

    @property
    def _has_provider(self) -> bool:
        """Return whether the environment names a provider for the model `main`."""
        return bool(self.openai_api_key.get_secret_value() or self.llm_base_url)
