"""Who may ask: from a request's headers and its peer to a caller, or a 401 in the envelope."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from accounts.hashing import KEY_PREFIX, hash_of
from server.errors import ApiError
from server.keys import KeyFile
from server.settings import Settings, SettingsError, is_loopback

if TYPE_CHECKING:
    from accounts.accounts import Accounts, Identity

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
    """The name of the key, or the user; `local` and `anonymous` without either."""
    upstream_key: str = ""
    """The caller's own key for the model, in the mode `passthrough`."""
    identity: "Identity | None" = None
    """The user, where one brought his token or key."""


class Authenticator:
    """Decides by one of three modes. No request is let in by what its body says."""

    def __init__(self, settings: Settings, accounts: "Accounts | None" = None) -> None:
        self._settings = settings
        self._accounts = accounts
        self._keys = KeyFile(settings.data_dir)
        self._configured = {name: hash_of(key.get_secret_value()) for name, key in settings.api_keys.items()}
        self.mode: Mode = settings.auth or ("keys" if self._all() else "none")
        if self.mode == "none" and not is_loopback(settings.host):
            raise SettingsError(
                f"Without keys the server listens on this machine only, not on {settings.host!r}."
                f" Make a key: {MAKE_A_KEY}"
            )
        if self.mode == "keys" and not self._all() and settings.registration != "open":
            raise SettingsError(f"Setting 'auth' is 'keys', but there is no key. Make one: {MAKE_A_KEY}")

    @property
    def registration_is_open(self) -> bool:
        """Whether anybody may make an account: on this machine alone, unless the settings say so."""
        return self._settings.registration == "open" or (not self._settings.registration and self.mode == "none")

    async def authenticate(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Caller:
        """Whoever may use the endpoints. Raises ApiError 401 and 403."""
        self._look_for_keys()
        if self.mode == "none":
            self._refuse_strangers(scope, headers)
            # Clients that cannot do without a key send any: only one of ours says who it is.
            identity = await self._who(_key_in(headers.get("authorization")))
            return _user(identity) if identity is not None else Caller("local")
        key = _bearer(headers.get("authorization"))
        if self.mode == "passthrough" and not key.startswith(KEY_PREFIX):
            if (identity := await self._who(key)) is not None:
                return _user(identity)  # a login of ours is for nobody else's eyes
            # Whose key it is we do not know, but one key is one caller: nobody meets the calls of another.
            return Caller(f"anonymous-{given_hash(key)}", key)
        found = ""
        given = hash_of(key)
        for name, known in self._all().items():  # all of them: the time tells nothing
            if hmac.compare_digest(given, known):
                found = name
        if found:
            return Caller(found)
        if (identity := await self._who(key)) is not None:
            return _user(identity)
        raise _unauthorized("The API key is wrong.", "invalid_api_key")

    async def identify(self, scope: Mapping[str, Any], headers: Mapping[str, str], needed: str) -> "Identity":
        """The user that a request for what belongs to users comes from. Raises ApiError 401 and 403."""
        self.admit(scope, headers)
        identity = await self._who(_bearer(headers.get("authorization")))
        if identity is None:
            raise _unauthorized("The token or key is wrong, or over.", "invalid_token")
        if needed not in identity.scopes:
            raise _forbidden(needed)
        return identity

    def admit(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Let anybody in who reaches this server rightly. Raises ApiError 401."""
        self._look_for_keys()
        if self.mode == "none":
            self._refuse_strangers(scope, headers)

    async def _who(self, bearer: str) -> "Identity | None":
        return await self._accounts.who(bearer) if self._accounts is not None and bearer else None

    def _look_for_keys(self) -> None:
        if self.mode == "none" and not self._settings.auth and self._all():
            self.mode = "keys"  # a key was made while the server ran; from now on one is needed

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


def _user(identity: "Identity") -> Caller:
    if "chat" not in identity.scopes:
        raise _forbidden("chat")
    return Caller(identity.principal, identity=identity)


def _key_in(value: str | None) -> str:
    scheme, _, key = (value or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.isascii() else ""


def _bearer(value: str | None) -> str:
    if not value:
        raise _unauthorized("An API key is needed: `Authorization: Bearer KEY`.", "no_api_key")
    key = _key_in(value)
    if not key or " " in key:
        raise _unauthorized("The Authorization header must read `Bearer KEY`.", "invalid_api_key")
    return key


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(401, message, "authentication_error", code, headers=_CHALLENGE)


def _forbidden(needed: str) -> ApiError:
    return ApiError(403, f"This key does not open {needed!r}.", "permission_error", "insufficient_scope")
