"""Encrypted copies of conversations in the shared cache: the last turns, as of one state of the rows.

A copy is used only if the conversation's row has not changed since. A copy that is stale, damaged or from another
conversation is a miss.
"""

import orjson

from dialgraph.storage.cache import Cache
from dialgraph.users.accounts.encryption import Encryption, EncryptionError
from dialgraph.users.conversations.prompt import MOST_TURNS
from dialgraph.users.conversations.values import KeptTurn

LIFETIME_SECONDS = 600
_LARGEST_BYTES = 256 * 1024


class ConversationCache:
    """Reads and writes the copies in the cache."""

    def __init__(self, cache: Cache, sealed: Encryption) -> None:
        self._cache = cache
        self._sealed = sealed

    async def get(self, conversation: str) -> tuple[int, list[KeptTurn]] | None:
        """Return the time of the conversation's last change and its last turns up to then; None if it is a miss."""
        found = await self._cache.get(_key(conversation))
        if found is None:
            return None
        try:
            changed, turns = orjson.loads(self._sealed.open(found, _key(conversation)))
            return int(changed), [KeptTurn(*turn) for turn in turns]
        except (EncryptionError, ValueError, TypeError):
            return None

    async def keep(self, conversation: str, changed: int, turns: list[KeptTurn]) -> None:
        """Store a copy of the last turns. Skip a copy that is too large."""
        last = [(one.id, one.position, one.question, one.answer, one.state, one.created_at) for one in turns]
        data = orjson.dumps([changed, last[-MOST_TURNS:]])
        if len(data) <= _LARGEST_BYTES:
            sealed = self._sealed.seal(data.decode(), _key(conversation))
            await self._cache.set(_key(conversation), sealed, LIFETIME_SECONDS)

    async def forget(self, conversation: str) -> None:
        """Delete the copy: the conversation was deleted."""
        await self._cache.delete(_key(conversation))


def _key(conversation: str) -> str:
    return f"conversation:{conversation}"
