"""The server's settings. Those of models, stores and voices are in `dialgraph/services/settings.py`."""

import os
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

import orjson
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import NoDecode
from pydantic_settings import SettingsError as UnreadableSetting

from dialgraph.engines import LONGEST_SECONDS
from dialgraph.project import VARIABLE
from dialgraph.services.settings import GraphSettings
from dialgraph.validation import complaints
from dialgraph.yaml_text import line_in
from server.setting_sources import PREFIX, SettingsError, SettingSources, read_sources, variable_of

__all__ = ["PREFIX", "USUAL_RATES", "Settings", "SettingsError", "ensure_data_dir", "load_settings"]

OTHER_VARIABLES = frozenset({VARIABLE})


def _names(value: object) -> object:
    """Return the names in a list, written as `rag, chat` or as `["rag", "chat"]`."""
    if isinstance(value, str):
        return (
            orjson.loads(value) if value.startswith("[") else [one.strip() for one in value.split(",") if one.strip()]
        )
    return value


LARGEST_MB = 1024
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


_OF_THE_MODEL = "LLM_"
"""In `.env` a name that begins in this way is one of ours. Other programs may have names there too."""
_VERY_SIMILAR = 0.8
_KEY = re.compile(r"[!-~]+")
"""Characters that an Authorization header can contain."""
USUAL_RATES = {
    "login": "10/minute",
    "login_name": "100/minute",
    "login_address": "60/minute",
    "register": "20/hour",
    "turn": "120/minute",
    "upload": "60/minute",
    "request": "1200/minute",
}
"""`login`: logins with one name from one address. `login_name`: logins with one name from all addresses.
`login_address`: logins from one address. `register`: new accounts from one address. The others count for one user.
Addresses are counted only where they are known: not those of this machine or of a proxy."""


class Settings(GraphSettings):
    """All settings of the server."""

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on. 0: any free port.")
    auth: Literal["", "none", "keys", "passthrough"] = Field(
        default="",
        description="Who may use the endpoints. `keys`: clients with a key from `dialgraph key create`. `passthrough`:"
        " clients with any key, which is sent to the model. `none`: everybody; the server then listens on this machine"
        " only. Empty: clients with the access token (`access.token` in the data folder); once a key exists, the same"
        " as `keys`.",
    )
    api_keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="Keys by name, in addition to those from `dialgraph key create`."
    )
    registration: Literal["", "open", "closed"] = Field(
        default="",
        description="Who may create an account over HTTP. `open`: everybody. `closed`: nobody. Empty: clients with the"
        " access token; once a key exists, nobody. `dialgraph user create` always works.",
    )
    token_secret: SecretStr = Field(
        default=SecretStr(""),
        description="The secret that signs users' access tokens: 32 bytes or more. Empty: the server creates one in the"
        " data folder when it first starts.",
    )
    encryption_keys: SecretStr = Field(
        default=SecretStr(""),
        description="The keys that encrypt users' upstream keys, separated by commas, the newest first. Remove the"
        " older ones after `dialgraph secret rotate`. Empty: the server creates one in the data folder when it first"
        " starts.",
    )
    upstreams: dict[str, str] = Field(
        default_factory=lambda: {
            "gpt": "https://api.openai.com/v1",
            "glm": "https://open.bigmodel.cn/api/paas/v4",
        },
        description="Where a user's own key is used: the beginning of a model's name → the base URL of its provider.",
    )
    private_hosts: Names = Field(
        default=(),
        description="Hosts in private networks that users may set as their own upstream, such as `llm.lan, 10.0.0.7`."
        " All other private hosts are refused.",
    )
    rates: dict[str, str] = Field(
        default_factory=dict,
        description="Rate limits by name, such as `10/minute`; an empty one means no limit. `login`: logins with one"
        " name from one address. `login_name`: logins with one name from all addresses. `login_address`: logins from"
        " one address. `register`: new accounts from one address. `turn`, `upload` and `request`: of one user."
        " Defaults: " + ", ".join(f"{name} {rate}" for name, rate in USUAL_RATES.items()) + ".",
    )
    user_token_budget: int = Field(
        default=0,
        ge=0,
        le=2**53,
        description="Tokens that one user may use in a calendar month, with all keys together. 0: no limit.",
    )
    user_storage_mb: int = Field(
        default=1024, ge=0, le=2**20, description="Storage for the files and documents of one user, in MB. 0: no limit."
    )
    user_streams: int = Field(
        default=20, ge=0, description="Turns of one user that may run at the same time. 0: no limit."
    )
    trusted_proxies: Names = Field(
        default=(),
        description="Addresses or networks of trusted proxies, such as `10.0.0.0/8`. Only their `X-Forwarded-For`"
        " headers or PROXY protocol are used to find a client's address.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="A Redis server (`redis://…`) that several processes share for rate limits and for copies of"
        " conversations and sessions. Optional: nothing is stored only there. Needs the extra `redis`.",
    )
    conversation_graph: str = Field(default="chat", description="The graph of a conversation that does not name one.")
    knowledge_graph: str = Field(
        default="rag", description="The graph of a turn that searches a user's knowledge base."
    )
    api_stream: Literal["events", "lines", "openai"] = Field(
        default="events",
        description="The default format of streams from `/api/chat` and `/api/rag/chat`. `events`: server-sent events."
        " `lines`: one JSON object per line. `openai`: OpenAI chunks.",
    )
    prices: Path | None = Field(
        default=None,
        description="A YAML file with the prices of models, in US dollars for a million tokens. Empty: the list prices"
        " in `server/prices.yaml`. The cost of a model without a price is unknown.",
    )
    otel_url: str = Field(
        default="",
        description="Where traces and metrics are sent: the base URL of an OTLP/HTTP receiver, such as"
        " `http://127.0.0.1:4318`. Empty: nowhere. Needs the extra `otel`.",
    )
    otel_headers: SecretStr = Field(
        default=SecretStr(""),
        description="Headers for that receiver, such as `authorization=Basic …`. Separate several with commas.",
    )
    otel_content: bool = Field(
        default=False,
        description="Whether traces contain what was said, with stand-ins for private values.",
    )
    otel_older_names: bool = Field(
        default=False,
        description="Whether to add the older names of GenAI attributes and metrics, which some receivers still need.",
    )
    endpoints: Names = Field(
        default=(), description="The graphs of langgraph.json to serve, such as `rag, chat`. Empty: all."
    )
    body_limit_mb: float = Field(
        default=20, gt=0, le=LARGEST_MB, description="The largest request body in MB, including pictures and sound."
    )
    bodies_mb: float = Field(
        default=128,
        gt=0,
        le=64 * LARGEST_MB,
        description="Memory for request bodies that are being processed, in MB. The first 64 KB of each body are not"
        " counted. One client may use half of it; beyond that, requests get 503. At least twice"
        " DIALGRAPH_BODY_LIMIT_MB.",
    )
    upload_limit_mb: float = Field(
        default=20, gt=0, le=LARGEST_MB, description="The largest file that can be uploaded, in MB."
    )
    keepalive_ms: int = Field(
        default=5000,
        gt=0,
        le=LONGEST_SECONDS * 1000,
        description="After this many milliseconds without data, a stream sends a comment, so that no proxy closes it.",
    )
    send_timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=LONGEST_SECONDS,
        description="After this many seconds in which a client reads nothing from its stream, its connection is"
        " closed.",
    )
    grace_seconds: float = Field(
        default=10, ge=0, le=LONGEST_SECONDS, description="How many seconds running turns may continue after a SIGTERM."
    )
    require_stream: bool = Field(default=False, description="Whether to refuse requests that do not stream, with 400.")
    cors_origins: Names = Field(
        default=(), description="Web origins that may call the API from a browser, such as `https://app.example.com`."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The lowest level that is logged."
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="The form of the log: `text`, or `json` with one object per line."
    )

    log_prompts: bool = Field(
        default=False,
        description="Whether to log every prompt that a model is sent. It shows what callers said, but no numbers of"
        " cards, identities and phones, and nothing that the guard of the graph finds.",
    )

    @property
    def bodies(self) -> int:
        """Return the setting in bytes."""
        return int(self.bodies_mb * 1024 * 1024)

    @property
    def user_storage(self) -> int:
        """Return the setting in bytes."""
        return self.user_storage_mb * 1024 * 1024

    @property
    def upload_limit(self) -> int:
        """Return the setting in bytes."""
        return int(self.upload_limit_mb * 1024 * 1024)

    @property
    def body_limit(self) -> int:
        """Return the setting in bytes."""
        return int(self.body_limit_mb * 1024 * 1024)


def load_settings(**overrides: object) -> Settings:
    """Return the settings of this process. Raises SettingsError for an unknown name or a value that is not valid."""
    sources = read_sources()
    _refuse_unknown_keys(sources)
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        wrong = complaints(error, Settings, show=False)[0]
        raise SettingsError(_placed(sources, wrong.loc, f"{wrong.what}.")) from None
    except UnreadableSetting as error:
        field = re.search(r'field "(\w+)"', str(error))
        loc = (field[1] if field else "?",)
        raise SettingsError(_placed(sources, loc, "the value must be valid JSON, such as {}.")) from None
    for name, key in settings.api_keys.items():
        if len(key.get_secret_value()) < 16:
            raise SettingsError(
                f"Setting 'api_keys': the key {name!r} is shorter than 16 characters. Use a longer key."
            )
        if not _KEY.fullmatch(key.get_secret_value()):
            raise SettingsError(
                f"Setting 'api_keys': the key {name!r} must contain only ASCII characters and no spaces."
            )
    return settings


def ensure_data_dir(settings: Settings) -> None:
    """Create the data folder. Raises SettingsError if it is not writable."""
    try:
        settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=settings.data_dir):
            pass
    except OSError:
        raise SettingsError(
            f"The data folder {str(settings.data_dir)!r} cannot be written. Set DIALGRAPH_DATA_DIR to another folder."
        ) from None


def _placed(sources: SettingSources, loc: Sequence[int | str], what: str) -> str:
    """Return a sentence about a setting, with the place where it was set."""
    place = sources.place_of(loc, Settings.model_fields)
    name = ".".join(map(str, loc))
    return f"{place}: setting {name!r}: {what}" if place else f"Setting {name!r}: {what}"


def _refuse_unknown_keys(sources: SettingSources) -> None:
    variables = {variable_of(name, one) for name, one in Settings.model_fields.items()} | OTHER_VARIABLES
    environment = {name.upper(): f"{name} in the environment" for name in os.environ}
    dotenv = {name: f".env, line {line}" for name, line in sources.dotenv.items()}
    for name, place in {**dotenv, **environment}.items():
        own = name.startswith(PREFIX) or (name in dotenv and name.startswith(_OF_THE_MODEL))
        misspelt = name in dotenv and get_close_matches(name, variables, 1, _VERY_SIMILAR)
        if name.partition("__")[0] not in variables and (own or misspelt):
            raise SettingsError(f"{place}: unknown setting {name!r}.{_hint(name, variables)}")
    for name in sources.table:
        if name not in Settings.model_fields:
            place = f"{Settings.YAML}, line {line_in(sources.nodes, [name])}"
            raise SettingsError(f"{place}: unknown setting {name!r}.{_hint(name, Settings.model_fields)}")


def _hint(name: str, accepted: Collection[str]) -> str:
    """Return the nearest name, compared without the prefix that all variables have."""
    bare = {one.removeprefix(PREFIX): one for one in accepted}
    near = get_close_matches(name.removeprefix(PREFIX), bare, 1)
    return f" Did you mean {bare[near[0]]!r}?" if near else " All settings are in docs/settings.md."
