"""The accounts as one process uses them. Finds the user of a token or key."""

import json
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Final

from dialgraph.environment import in_thread
from dialgraph.storage.cache import Cache
from dialgraph.storage.database import Database
from dialgraph.storage.errors import DatabaseAwayError
from dialgraph.users.accounts.encryption import Encryption, EncryptionError
from dialgraph.users.accounts.key_hash import KEY_PREFIX, hash_of
from dialgraph.users.accounts.keys import SCOPES, UserKey, UserKeys
from dialgraph.users.accounts.passwords import Passwords
from dialgraph.users.accounts.tokens import TokenError, Tokens, load_libraries
from dialgraph.users.accounts.users import REFRESH_PREFIX, User, Users

EVERYTHING: Final = frozenset({*SCOPES, "account"})
"""The scopes of a logged-in user. No key has `account`, the scope for passwords, keys and deleting the account."""
KNOWN_SECONDS = 1.0
"""How long an answer of the database is reused. A token works at most this long after its session has ended."""
MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Identity:
    """A user, and the scopes of the token or key that the request brought."""

    user: User
    scopes: frozenset[str]
    session_id: str = ""
    key: UserKey | None = None

    @property
    def principal(self) -> str:
        """Return the name under which this user's calls, memories and limits are stored."""
        return f"user:{self.user.id}"


class Accounts:
    """Finds users by their tokens and keys, and remembers the answers for a moment."""

    def __init__(self, database: Database, tokens: Tokens, sealed: Encryption, cache: Cache) -> None:
        self.passwords = Passwords()
        self.users = Users(database, self.passwords, tokens)
        self.keys = UserKeys(database)
        self._sealed = sealed
        self._cache = cache
        self._tokens = tokens
        self._known: dict[str, tuple[float, Identity]] = {}

    async def who(self, bearer: str) -> Identity | None:
        """Return the user of this token or key; None if it is invalid or expired."""
        if bearer.startswith(KEY_PREFIX):
            return await self._look(bearer, self._by_key)
        if bearer.count(".") == 2:
            return await self._look(bearer, self._by_token)
        return None

    def issued(self, bearer: str) -> bool:
        """Return whether this server issued the token or key, valid or not: it must not be sent to a provider."""
        return bearer.startswith((KEY_PREFIX, REFRESH_PREFIX)) or Tokens.names_us(bearer)

    def forget(self, user_id: str) -> None:
        """Forget the remembered answers for this user, so that the database is asked again."""
        self._known = {key: known for key, known in self._known.items() if known[1].user.id != user_id}

    async def prewarm(self) -> None:
        """Load what the tokens of existing users need, so that no call waits for it."""
        with suppress(DatabaseAwayError):  # a start goes on without the database; /ready reports it
            if await self.users.any():
                await in_thread(load_libraries)

    async def aclose(self) -> None:
        """Stop the thread that hashes passwords."""
        await self.passwords.aclose()

    async def _look(self, bearer: str, find: Callable[[str], Awaitable[Identity | None]]) -> Identity | None:
        kept, now = hash_of(bearer), time.monotonic()
        until, identity = self._known.get(kept, (0.0, None))
        if identity is not None and now < until:
            return identity
        self._known.pop(kept, None)
        seconds, identity = await self._shared(kept)
        if identity is None:
            seconds, identity = KNOWN_SECONDS, await find(bearer)
            if identity is not None:
                await self._share(kept, identity)
        if identity is not None:
            while len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[kept] = (now + seconds, identity)
        return identity

    async def _shared(self, kept: str) -> tuple[float, Identity | None]:
        """Return what another process has just found, and for how many seconds it is valid.

        The entry can be trusted because it is encrypted with our key.
        """
        found = await self._cache.get(f"who:{kept}")
        if found is None:
            return 0.0, None
        try:
            until, user, name, scopes, session, key = json.loads(self._sealed.open(found, kept))
        except (EncryptionError, ValueError):
            return 0.0, None
        if not 0 < (seconds := until - time.time()) <= KNOWN_SECONDS:
            return 0.0, None
        return seconds, Identity(User(user, name), frozenset(scopes), session, UserKey(**key) if key else None)

    async def _share(self, kept: str, identity: Identity) -> None:
        user, key = identity.user, identity.key
        said = [
            time.time() + KNOWN_SECONDS, user.id, user.name, sorted(identity.scopes), identity.session_id,
            asdict(key) if key else None,
        ]  # fmt: skip
        await self._cache.set(f"who:{kept}", self._sealed.seal(json.dumps(said), kept), math.ceil(KNOWN_SECONDS))

    async def _by_key(self, bearer: str) -> Identity | None:
        if (found := await self.keys.who(bearer)) is None:
            return None
        user, key = found
        return Identity(user, frozenset(key.scopes), key=key)

    async def _by_token(self, bearer: str) -> Identity | None:
        try:
            claims = self._tokens.read(bearer)
        except TokenError:
            return None
        user = await self.users.who(claims)
        return Identity(user, EVERYTHING, claims.session_id) if user else None
