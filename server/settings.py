"""The server's settings. Those of models, stores and voices are in `dialgraph/services/settings.py`."""

import os
import re
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

import orjson
import yaml
from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import NoDecode
from pydantic_settings import SettingsError as UnreadableSetting

from dialgraph.engines import LONGEST_SECONDS
from dialgraph.models.port import ModelAddress
from dialgraph.project import VARIABLE, in_project
from dialgraph.services.settings import GraphSettings

PREFIX = "DIALGRAPH_"
OTHER_VARIABLES = frozenset({VARIABLE})


class SettingsError(Exception):
    """The settings cannot be used. The message never contains a secret value."""


def _names(value: object) -> object:
    """Return the names in a list, written as `rag, chat` or as `["rag", "chat"]`."""
    if isinstance(value, str):
        return (
            orjson.loads(value) if value.startswith("[") else [one.strip() for one in value.split(",") if one.strip()]
        )
    return value


LARGEST_MB = 1024
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


_ADDRESS_FIELDS = [field.name for field in fields(ModelAddress)]
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
    _refuse_unknown_keys()
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    except UnreadableSetting as error:
        field = re.search(r'field "(\w+)"', str(error))
        raise SettingsError(
            f"Setting {field[1] if field else '?'!r}: the value must be valid JSON, such as {{}}."
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"The settings cannot be read: {reason}.") from None
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


def _sentence(error: ValidationError) -> str:
    """Return the first mistake. An unknown name comes before the missing field that it was meant for."""
    unknown = [one for one in error.errors() if one["type"] in ("extra_forbidden", "unexpected_keyword_argument")]
    one = (unknown or error.errors())[0]
    name = ".".join(map(str, one["loc"]))
    if not unknown:
        return f"Setting {name!r}: {one['msg']}."
    near = get_close_matches(str(one["loc"][-1]), _ADDRESS_FIELDS, 1)
    return f"Setting {name!r}: unknown name.{f' Did you mean {near[0]!r}?' if near else ''}"


def _refuse_unknown_keys() -> None:
    environment = [name for name in os.environ if name.upper().startswith(PREFIX)]
    _refuse("the environment", (name.upper() for name in environment), upper=True)
    dotenv = in_project(Path(".env"))
    if dotenv.is_file():
        names = [name.upper() for name in dotenv_values(dotenv)]
        _refuse(".env", (name for name in names if name.startswith(PREFIX)), upper=True)
        aliases = [str(field.validation_alias) for field in Settings.model_fields.values() if field.validation_alias]
        for name in names:
            near = get_close_matches(name, aliases, 1, 0.9)
            if near and name not in aliases:
                raise SettingsError(f"Unknown setting {name!r} in .env. Did you mean {near[0]!r}?")
    path = in_project(Path(Settings.YAML))
    if path.is_file():
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError:
            raise SettingsError(f"{path.name!r} is not valid YAML.") from None
        if not isinstance(data, dict):
            raise SettingsError(f"{path.name!r} must be a table of settings: `name: value` lines.")
        _refuse(path.name, map(str, data), upper=False)


def _refuse(source: str, keys: Iterable[str], *, upper: bool) -> None:
    fields = [name for name, field in Settings.model_fields.items() if upper is False or not field.validation_alias]
    accepted = {PREFIX + name.upper() for name in fields} | OTHER_VARIABLES if upper else set(fields)
    for key in keys:
        if key.partition("__")[0] not in accepted:
            near = get_close_matches(key.removeprefix(PREFIX), [name.removeprefix(PREFIX) for name in accepted], 1)
            hint = (
                f" Did you mean {(PREFIX if upper else '') + near[0]!r}?"
                if near
                else " All settings are in docs/settings.md."
            )
            raise SettingsError(f"Unknown setting {key!r} in {source}.{hint}")
