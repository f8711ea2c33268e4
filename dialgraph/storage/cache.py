"""The Cache port: copies that are kept for a limited time and shared by processes. Nothing is stored only here."""

from typing import Protocol
from urllib.parse import urlsplit


class Cache(Protocol):
    """A cache that many processes share. Every failure counts as a miss and costs only a short time."""

    @property
    def healthy(self) -> bool:
        """Return whether the cache answers."""

    async def get(self, key: str) -> bytes | None:
        """Return the value; None if there is none or the cache does not answer."""

    async def set(self, key: str, value: bytes, seconds: int) -> None:
        """Store the value for this many seconds, if the cache answers."""

    async def delete(self, *keys: str) -> None:
        """Delete the values of these keys."""

    async def count(self, key: str, seconds: int, by: int = 1) -> tuple[int, float] | None:
        """Add to a counter whose window begins with the first count.

        Returns the count and the seconds until the window ends; None if the cache does not answer.
        """

    async def aclose(self) -> None:
        """Close the connections."""


class NoCache:
    """The cache of a server without Redis. It stores nothing."""

    healthy = True

    async def get(self, key: str) -> bytes | None:
        """Return None: nothing is stored."""
        return None

    async def set(self, key: str, value: bytes, seconds: int) -> None:
        """Do nothing."""

    async def delete(self, *keys: str) -> None:
        """Do nothing."""

    async def count(self, key: str, seconds: int, by: int = 1) -> tuple[int, float] | None:
        """Return None: nothing is counted."""
        return None

    async def aclose(self) -> None:
        """Do nothing: nothing is open."""


def open_cache(url: str) -> Cache:
    """Return the cache at this address; a NoCache if the address is empty. Raises ValueError."""
    if not url:
        return NoCache()
    scheme = urlsplit(url).scheme
    if scheme not in ("redis", "rediss"):
        raise ValueError(f"redis_url: no cache for {scheme!r}. Accepted: `redis://…`, `rediss://…`.")
    try:
        from dialgraph.storage.redis_cache import RedisCache  # an extra
    except ModuleNotFoundError as error:
        raise ValueError("redis_url: this needs the extra `redis`: pip install 'dialgraph[redis]'.") from error
    return RedisCache(url)
