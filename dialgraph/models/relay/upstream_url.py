"""The URLs of an OpenAI-compatible server, from the address in the settings."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

COMPLETIONS: Final = "/chat/completions"
_AZURE: Final = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """The URLs of one server."""

    completions: str
    models: str
    host: str
    takes_api_key_header: bool
    """Whether the server reads the key from the header `api-key`, as Azure does."""


def upstream_url(name: str, url: str) -> UpstreamUrl:
    """Return the URLs for an address. A query stays: Azure's address has `?api-version=…` after a deployment's path.

    Raise ValueError if it is not a valid address, or contains a part that would be lost.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"model {name!r}: the address is not a valid URL.") from None
    if not host or parts.username is not None or parts.fragment:
        raise ValueError(
            f"model {name!r}: the address must have the form `https://host/path`, without a user name and without `#`."
        )
    base = parts.path.rstrip("/").removesuffix(COMPLETIONS)

    def at(path: str) -> str:
        return urlunsplit((parts.scheme, parts.netloc, base + path, parts.query, ""))

    return UpstreamUrl(at(COMPLETIONS), at("/models"), host, host.lower().endswith(_AZURE))
