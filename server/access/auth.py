"""Authentication: finds out who sends a request from its headers and its address, or refuses it with a 401."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from dialgraph.users.accounts.key_hash import KEY_PREFIX, hash_of
from server.access.access_token import access_token
from server.access.key_file import KeyFile, KeyFileError
from server.connection.extensions import KNOWN
from server.connection.networks import is_loopback
from server.errors import ApiError
from server.settings import Settings, SettingsError

if TYPE_CHECKING:
    from dialgraph.users.accounts.accounts import Accounts, Identity

Mode = Literal["none", "token", "keys", "passthrough"]

LOCAL: Final = "local"
"""The principal of requests with the access token, and of all requests in the mode `none` without a user's key."""
_LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_FORWARDING: Final = (
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server", "x-real-ip",
    "cf-connecting-ip", "true-client-ip", "via",
)  # fmt: skip
_CHALLENGE: Final = {"WWW-Authenticate": "Bearer"}
MAKE_A_KEY: Final = "dialgraph key create NAME"


@dataclass(frozen=True, slots=True)
class Requester:
    """The client or user who sends a request."""

    principal: str
    """The name of the key, or the user; without either it is `local` or `anonymous-…`."""
    upstream_key: str = ""
    """The client's own key for the model, in the mode `passthrough`."""
    identity: "Identity | None" = None
    """The user, if the request has a user's token or key."""


class Authenticator:
    """Authenticates requests in one of four modes. The body of a request never decides."""

    def __init__(self, settings: Settings, accounts: "Accounts | None" = None) -> None:
        self._settings = settings
        self._accounts = accounts
        self._keys = KeyFile(settings.data_dir)
        self._configured = {name: hash_of(key.get_secret_value()) for name, key in settings.api_keys.items()}
        try:
            self._keys.check()
        except KeyFileError as error:
            raise SettingsError(str(error)) from None
        self.mode: Mode = settings.auth or ("keys" if self._all() else "token")
        self.token = access_token(settings.data_dir) if self.mode == "token" else ""
        """The token that requests must send in the mode `token`; empty in the other modes."""
        if self.mode == "none" and not is_loopback(settings.host):
            raise SettingsError(
                f"With auth 'none' the server listens on this machine only, not on {settings.host!r}."
                " Leave DIALGRAPH_AUTH empty to require a token or a key. Then the server can listen on any address."
            )
        if self.mode == "keys" and not self._all() and settings.registration != "open":
            raise SettingsError(f"Setting 'auth' is 'keys', but there is no key. Make one: {MAKE_A_KEY}")

    @property
    def registration_is_open(self) -> bool:
        """Return whether accounts can be created over HTTP. If the setting is empty: in modes `token` and `none`."""
        local = self.mode in ("none", "token")
        return self._settings.registration == "open" or (not self._settings.registration and local)

    async def authenticate(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Requester:
        """Return who sends the request, if they may use the endpoints. Raises ApiError 401 and 403."""
        caller = await self._authenticated(scope, headers)
        _note_key(scope)
        return caller

    async def _authenticated(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> Requester:
        self._look_for_keys()
        if self.mode == "none":
            self._refuse_strangers(scope, headers)
            # Some clients always send a key, even a made-up one. Only a key of this server names a user.
            identity = await self._who(_key_in(headers.get("authorization")))
            return _user(identity) if identity is not None else Requester(LOCAL)
        key = _bearer(headers.get("authorization"))
        if self.mode == "passthrough" and not key.startswith(KEY_PREFIX):
            return await self._passed_through(key)
        if self._is_token(key):
            return Requester(LOCAL)
        if name := self._name_of(key):
            return Requester(name)
        if (identity := await self._who(key)) is not None:
            return _user(identity)
        raise _wrong_key()

    async def identify(self, scope: Mapping[str, Any], headers: Mapping[str, str], needed: str) -> "Identity":
        """Return the user whose data a request is about. Raises ApiError 401 and 403."""
        identity = await self.recognise(scope, headers)
        if needed not in identity.scopes:
            raise _forbidden(needed)
        return identity

    async def recognise(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> "Identity":
        """Return the user who sends the request, without checking scopes. Raises ApiError 401."""
        self._look_for_keys()
        if self.mode == "none":
            self._refuse_strangers(scope, headers)
        identity = await self._who(_bearer(headers.get("authorization")))
        if identity is None:
            raise _unauthorized("Invalid or expired token or key. Send a user's token or key.", "invalid_token")
        _note_key(scope)
        return identity

    def admit(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Check a request to register or log in. In the mode `token` it needs that token, unless registration is open.

        Raises ApiError 401.
        """
        self._look_for_keys()
        if self.mode == "none":
            self._refuse_strangers(scope, headers)
            return
        guarded = self.mode == "token" and self._settings.registration != "open"
        if guarded and not self._is_token(_bearer(headers.get("authorization"))):
            raise _wrong_key()

    async def _passed_through(self, key: str) -> Requester:
        if (identity := await self._who(key)) is not None:
            return _user(identity)
        if self._accounts is not None and self._accounts.issued(key):
            raise _wrong_key()  # it was issued here and is no longer valid: it must not be sent to a provider
        # The owner of the key is unknown. Each key gets its own principal, so that clients do not share calls.
        return Requester(f"anonymous-{given_hash(key)}", key)

    async def _who(self, bearer: str) -> "Identity | None":
        return await self._accounts.who(bearer) if self._accounts is not None and bearer else None

    def _is_token(self, key: str) -> bool:
        return self.mode == "token" and hmac.compare_digest(key.encode(), self.token.encode())

    def _name_of(self, key: str) -> str:
        """Return the name of an operator's key; empty for any other text."""
        found, given = "", hash_of(key)
        for name, known in self._all().items():  # always compare with all, so that the time reveals nothing
            if hmac.compare_digest(given, known):
                found = name
        return found

    def _look_for_keys(self) -> None:
        """Change to the mode `keys` if a key was created while the server runs."""
        if not self._settings.auth and self.mode == "token" and self._all():
            self.mode, self.token = "keys", ""

    def _all(self) -> dict[str, str]:
        return {**self._keys.hashes(), **self._configured}

    def _refuse_strangers(self, scope: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        """Refuse requests that show signs of another machine: a proxy, a rebound host name, a web page.

        A plain tunnel shows no signs, so this does not protect the server. The mode `none` gives no protection, and the
        server says so when it starts.
        """
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
            raise _unauthorized(
                "With auth 'none' the server answers this machine only."
                " Leave DIALGRAPH_AUTH empty to use a token or keys.",
                "no_api_key",
            )

    def _is_own_page(self, headers: Mapping[str, str]) -> bool:
        """Return whether no web page sent the request, or a page of this machine or of an origin in the settings."""
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none") in ("none", "same-origin", "same-site")
        host = origin.rpartition("://")[2]
        name = host if host.endswith("]") else host.partition(":")[0]
        return origin in self._settings.cors_origins or name.lower() in _LOCAL_HOSTS


def given_hash(key: str) -> str:
    """Return a short name for a key that does not reveal the key."""
    return hash_of(key)[:16]


def _note_key(scope: Mapping[str, Any]) -> None:
    """Mark the connection as one that has sent a valid key."""
    if (note := scope.get("extensions", {}).get(KNOWN)) is not None:
        note()


def _user(identity: "Identity") -> Requester:
    if "chat" not in identity.scopes:
        raise _forbidden("chat")
    return Requester(identity.principal, identity=identity)


def _key_in(value: str | None) -> str:
    scheme, _, key = (value or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.isascii() else ""


def _bearer(value: str | None) -> str:
    if not value:
        raise _unauthorized("An API key is required: `Authorization: Bearer KEY`.", "no_api_key")
    key = _key_in(value)
    if not key or " " in key:
        raise _unauthorized("The Authorization header must be `Bearer KEY`.", "invalid_api_key")
    return key


def _wrong_key() -> ApiError:
    return _unauthorized("Invalid API key or token.", "invalid_api_key")


def _unauthorized(message: str, code: str) -> ApiError:
    return ApiError(401, message, "authentication_error", code, headers=_CHALLENGE)


def _forbidden(needed: str) -> ApiError:
    message = (
        "An API key is not enough for this: log in." if needed == "account" else f"This key lacks the scope {needed!r}."
    )
    return ApiError(403, message, "permission_error", "insufficient_scope")
