"""Where an OpenAI-compatible server is asked, from the address that the settings give."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit, urlunsplit

COMPLETIONS: Final = "/chat/completions"
_AZURE: Final = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")


@dataclass(frozen=True, slots=True)
class UpstreamUrl:
    """The addresses of one server."""

    completions: str
    models: str
    host: str
    takes_api_key_header: bool
    """Azure reads keys from `api-key`."""


def upstream_url(name: str, url: str) -> UpstreamUrl:
    """Split the address into path and query: Azure's carries `?api-version=…` behind the path of a deployment.

    Raises ValueError for what is not an address, or holds what would be lost.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ValueError(f"model {name!r}: the address cannot be read.") from None
    if not host or parts.username is not None or parts.fragment:
        raise ValueError(f"model {name!r}: the address must be `https://host/path`, without a name and without `#`.")
    base = parts.path.rstrip("/").removesuffix(COMPLETIONS)

    def at(path: str) -> str:
        return urlunsplit((parts.scheme, parts.netloc, base + path, parts.query, ""))

    return UpstreamUrl(at(COMPLETIONS), at("/models"), host, host.lower().endswith(_AZURE))
