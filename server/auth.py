"""Who may ask: from a request's headers and its peer to a principal, or a 401 in the envelope."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from server.errors import ApiError
from server.keys import KeyFile, hash_of
from server.settings import Settings, SettingsError, is_loopback

Mode = Literal["none", "keys", "passthrough"]

_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDING: Final = (
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server", "x-real-ip",
    "cf-connecting-ip", "true-client-ip", "via",
)  # fmt: skip
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
MAKE_A_KEY: Final = "dialgraph key create NAME"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    principal: str
    """The name of the key; `local` and `anonymous` without keys."""
    upstream_key: str = ""
    """The caller's own key for the model, in the mode `passthrough`."""


class Authenticator:
    """Decides by one of three modes. No request is let in by what its body says."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._keys = KeyFile(settings.data_dir)
        self._configured = {name: hash_of(key.get_secret_value()) for name, key in settings.api_keys.items()}
        self.mode: Mode = settings.auth or ("keys" if self._all() else "none")
        if self.mode == "none" and not is_loopback(settings.host):
            raise SettingsError(
                f"Without keys the server listens on this machine only, not on {settings.host!r}."
                f" Make a key: {MAKE_A_KEY}"
            )
        if self.mode == "keys" and not self._all():
            raise SettingsError(f"Setting 'auth' is 'keys', but there is no key. Make one: {MAKE_A_KEY}")

    def authenticate(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Caller:
        """Raises ApiError 401."""
        if self.mode == "none" and not self._settings.auth and self._all():
            self.mode = "keys"  # a key was made while the server ran; from now on one is needed
        if self.mode == "none":
            self._refuse_strangers(scope, headers)
            return Caller("local")
        key = _bearer(headers.get("authorization"))
        if self.mode == "passthrough":
            # Whose key it is we do not know, but one key is one caller: nobody meets the calls of another.
            return Caller(f"anonymous-{given_hash(key)}", key)
        found = ""
        given = hash_of(key)
        for name, known in self._all().items():  # all of them: the time tells nothing
            if hmac.compare_digest(given, known):
                found = name
        if not found:
            raise _unauthorized("The API key is wrong.", "invalid_api_key")
        return Caller(found)

    def _all(self) -> dict[str, str]:
        return {**self._keys.hashes(), **self._configured}

    def _refuse_strangers(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Binding to loopback is not enough: tunnels, proxies, rebound names and web pages come from loopback too."""
        client = scope.get("client")
        host = headers.get("host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        local = (
            client is not None
            and is_loopback(str(client[0]))
            and name.lower() in _LOCAL_HOSTS
            and not any(header in headers for header in _FORWARDING)
            and self._is_own_page(headers)
        )
        if not local:
            raise _unauthorized(f"From outside this machine a key is needed. Make one: {MAKE_A_KEY}", "no_api_key")

    def _is_own_page(self, headers: Mapping[str, str]) -> bool:
        """Whether no web page sent it, or one of this machine, or one whose origin the settings name."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin", "same-site")
        host = origin.rpartition("://")[2]
        name = host if host.endswith("]") else host.partition(":")[0]
        return origin in self._settings.cors_origins or name.lower() in _LOCAL_HOSTS


def given_hash(key: str) -> str:
    """A short name for a key that tells nothing of it."""
    return hash_of(key)[:16]


def _bearer(value: str | None) -> str:
    if not value:
        raise _unauthorized("An API key is needed: `Authorization: Bearer KEY`.", "no_api_key")
    scheme, _, key = value.partition(" ")
    key = key.strip()
    if scheme.lower() != "bearer" or not key or " " in key or not key.isascii():
        raise _unauthorized("The Authorization header must read `Bearer KEY`.", "invalid_api_key")
    return key


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(401, message, "authentication_error", code, headers=_CHALLENGE)
