"""How the server is reached, beside what `dialgraph/services/settings.py` says of models, stores and voices."""

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
from dialgraph.services.settings import GraphSettings

PREFIX = "DIALGRAPH_"
OTHER_VARIABLES = frozenset({"DIALGRAPH_GRAPHS_FILE"})


class SettingsError(Exception):
    """The settings cannot be used. One sentence; it shows no value, which may be a secret."""


def _names(value: object) -> object:
    """`rag, chat` and `["rag", "chat"]` alike."""
    if isinstance(value, str):
        return (
            orjson.loads(value) if value.startswith("[") else [one.strip() for one in value.split(",") if one.strip()]
        )
    return value


LARGEST_MB = 1024
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)]


_ADDRESS_FIELDS = [field.name for field in fields(ModelAddress)]
_KEY = re.compile(r"[!-~]+")
"""What can stand in an Authorization header."""
USUAL_RATES = {
    "login": "10/minute",
    "login_name": "100/minute",
    "login_address": "60/minute",
    "register": "20/hour",
    "turn": "120/minute",
    "upload": "60/minute",
    "request": "1200/minute",
}
"""How often: logins of one name from one address, of one name from anywhere, from one address; accounts from one
address; the rest of one user. Addresses count where they are known: not those of this machine or of a proxy."""


class Settings(GraphSettings):
    """Everything that can be set."""

    host: str = Field(default="127.0.0.1", description="The address to listen on.")
    port: int = Field(default=8000, ge=0, le=65535, description="The port to listen on; 0 takes a free one.")
    auth: Literal["", "none", "keys", "passthrough"] = Field(
        default="",
        description="Who is answered. `keys`: clients with a key made by `dialgraph key create`. `passthrough`: clients"
        " with any key, which is sent on to the model. `none`: everybody who reaches the port; the server then listens"
        " on this machine only. Empty: clients with the access token (`access.token` in the data folder), or `keys`"
        " once there is a key.",
    )
    api_keys: dict[str, SecretStr] = Field(
        default_factory=dict, description="Keys by name, beside those of `dialgraph key create`."
    )
    registration: Literal["", "open", "closed"] = Field(
        default="",
        description="Who may make an account over HTTP. `open`: everybody. `closed`: nobody. Empty: clients with the"
        " access token, or nobody once there are keys; `dialgraph user create` always works.",
    )
    token_secret: SecretStr = Field(
        default=SecretStr(""),
        description="Signs users' access tokens, 32 bytes or more. Empty: made at the first start, in the data folder.",
    )
    encryption_keys: SecretStr = Field(
        default=SecretStr(""),
        description="Encrypt users' upstream keys; the newest first, older ones behind commas until"
        " `dialgraph secret rotate`. Empty: made at the first start, in the data folder.",
    )
    upstreams: dict[str, str] = Field(
        default_factory=lambda: {
            "gpt": "https://api.openai.com/v1",
            "glm": "https://open.bigmodel.cn/api/paas/v4",
        },
        description="How a model's name begins → where it is asked for with a user's own key.",
    )
    private_hosts: Names = Field(
        default=(),
        description="Hosts in private networks that users' upstreams may be at: `llm.lan, 10.0.0.7`; others are"
        " refused.",
    )
    rates: dict[str, str] = Field(
        default_factory=dict,
        description="How often: `login` of one name from one address, `login_name` of one name from anywhere,"
        " `login_address` and `register` from one address, `turn`, `upload` and `request` of one user, as `10/minute`;"
        " empty: no limit. Usual: " + ", ".join(f"{name} {rate}" for name, rate in USUAL_RATES.items()) + ".",
    )
    user_token_budget: int = Field(
        default=0, ge=0, le=2**53, description="Tokens of one user a calendar month, all keys together; 0: no bound."
    )
    user_storage_mb: int = Field(
        default=1024, ge=0, le=2**20, description="Files and documents of one user, in MB; 0: no bound."
    )
    user_streams: int = Field(default=20, ge=0, description="Turns of one user that may run at once; 0: no limit.")
    trusted_proxies: Names = Field(
        default=(),
        description="Addresses or networks of proxies whose `X-Forwarded-For`, or PROXY protocol, is believed:"
        " `10.0.0.0/8`.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr(""),
        description="`redis://…` for what processes share: counters of rates, copies of conversations and sessions."
        " Nothing lasting is in it; without it all works. Extra `redis`.",
    )
    conversation_graph: str = Field(default="chat", description="The graph of a conversation that names none.")
    knowledge_graph: str = Field(default="rag", description="The graph of a turn that asks a user's knowledge base.")
    api_stream: Literal["events", "lines", "openai"] = Field(
        default="events",
        description="How `/api/chat` streams: as server-sent events, as bare JSON lines, or as OpenAI chunks.",
    )
    endpoints: Names = Field(default=(), description="The graphs of langgraph.json to serve: `rag, chat`; empty: all.")
    body_limit_mb: float = Field(
        default=20, gt=0, le=LARGEST_MB, description="The largest request body, pictures and sound included."
    )
    bodies_mb: float = Field(
        default=128,
        gt=0,
        le=64 * LARGEST_MB,
        description="Request bodies that are held at once, beyond the first 64 KB of each; one caller may hold half of"
        " it. More are answered with 503. At least twice the largest body.",
    )
    upload_limit_mb: float = Field(
        default=20, gt=0, le=LARGEST_MB, description="The largest file that can be uploaded."
    )
    keepalive_ms: int = Field(
        default=5000,
        gt=0,
        le=LONGEST_SECONDS * 1000,
        description="Silence after which a stream gets a comment, so that no proxy cuts it.",
    )
    send_timeout_seconds: float = Field(
        default=30,
        gt=0,
        le=LONGEST_SECONDS,
        description="How long a client may take nothing of its stream before it is cut off.",
    )
    grace_seconds: float = Field(
        default=10, ge=0, le=LONGEST_SECONDS, description="How long running calls may go on after a SIGTERM."
    )
    require_stream: bool = Field(default=False, description="Whether requests that do not stream are refused with 400.")
    cors_origins: Names = Field(default=(), description="Web origins that may call from a browser.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")

    @property
    def bodies(self) -> int:
        """In bytes."""
        return int(self.bodies_mb * 1024 * 1024)

    @property
    def user_storage(self) -> int:
        """In bytes."""
        return self.user_storage_mb * 1024 * 1024

    @property
    def upload_limit(self) -> int:
        """In bytes."""
        return int(self.upload_limit_mb * 1024 * 1024)

    @property
    def body_limit(self) -> int:
        """In bytes."""
        return int(self.body_limit_mb * 1024 * 1024)


def load_settings(**overrides: object) -> Settings:
    """The settings of this process. Raises SettingsError for an unknown key, a bad value or an unsafe combination."""
    _refuse_unknown_keys()
    try:
        settings = Settings(**overrides)  # type: ignore[arg-type]  # pydantic checks them
    except ValidationError as error:
        raise SettingsError(_sentence(error)) from None
    except UnreadableSetting as error:
        field = re.search(r'field "(\w+)"', str(error))
        raise SettingsError(f"Setting {field[1] if field else '?'!r}: a table must be JSON, such as {{}}.") from None
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SettingsError(f"The settings cannot be read: {reason}.") from None
    for name, key in settings.api_keys.items():
        if len(key.get_secret_value()) < 16:
            raise SettingsError(
                f"Setting 'api_keys': the key {name!r} is shorter than 16 characters and can be guessed."
            )
        if not _KEY.fullmatch(key.get_secret_value()):
            raise SettingsError(f"Setting 'api_keys': the key {name!r} must have ASCII characters only, and no spaces.")
    return settings


def ensure_data_dir(settings: Settings) -> None:
    """Make the data folder. Raises SettingsError where nothing can be written."""
    try:
        settings.data_dir.mkdir(0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=settings.data_dir):
            pass
    except OSError:
        raise SettingsError(
            f"The data folder {str(settings.data_dir)!r} cannot be written. Set DIALGRAPH_DATA_DIR to one that can."
        ) from None


def _sentence(error: ValidationError) -> str:
    """The first mistake; a misspelt name before the field that it was meant for."""
    unknown = [one for one in error.errors() if one["type"] in ("extra_forbidden", "unexpected_keyword_argument")]
    one = (unknown or error.errors())[0]
    name = ".".join(map(str, one["loc"]))
    if not unknown:
        return f"Setting {name!r}: {one['msg']}."
    near = get_close_matches(str(one["loc"][-1]), _ADDRESS_FIELDS, 1)
    return f"Setting {name!r}: no such name.{f' Did you mean {near[0]!r}?' if near else ''}"


def _refuse_unknown_keys() -> None:
    environment = [name for name in os.environ if name.upper().startswith(PREFIX)]
    _refuse("the environment", (name.upper() for name in environment), upper=True)
    if Path(".env").is_file():
        names = [name.upper() for name in dotenv_values(".env")]
        _refuse(".env", (name for name in names if name.startswith(PREFIX)), upper=True)
        aliases = [str(field.validation_alias) for field in Settings.model_fields.values() if field.validation_alias]
        for name in names:
            near = get_close_matches(name, aliases, 1, 0.9)
            if near and name not in aliases:
                raise SettingsError(f"Unknown setting {name!r} in .env. Did you mean {near[0]!r}?")
    path = Path(str(Settings.YAML))
    if path.is_file():
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except yaml.YAMLError:
            raise SettingsError(f"{path.name!r} is not YAML.") from None
        if not isinstance(data, dict):
            raise SettingsError(f"{path.name!r} must hold settings by name.")
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
