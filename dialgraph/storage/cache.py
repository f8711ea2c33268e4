"""The Cache port: what is kept elsewhere for a while, and is never the home of anything."""

from typing import Protocol
from urllib.parse import urlsplit


class Cache(Protocol):
    """Shared by many processes. Whatever is wrong with it is a miss, and costs no more than a moment."""

    @property
    def healthy(self) -> bool:
        """Whether it answers."""

    async def get(self, key: str) -> bytes | None:
        """What is kept; None: nothing, or nobody knows."""

    async def set(self, key: str, value: bytes, seconds: int) -> None:
        """Keep it for so long, if that is possible."""

    async def delete(self, *keys: str) -> None:
        """Forget it."""

    async def count(self, key: str, seconds: int, by: int = 1) -> tuple[int, float] | None:
        """Count in a window that begins with the first. Returns how many there are, and for how long it goes on."""

    async def aclose(self) -> None:
        """Give back what is open."""


class NoCache:
    """Of a server without Redis."""

    healthy = True

    async def get(self, key: str) -> bytes | None:
        """See the port."""
        return None

    async def set(self, key: str, value: bytes, seconds: int) -> None:
        """See the port."""

    async def delete(self, *keys: str) -> None:
        """See the port."""

    async def count(self, key: str, seconds: int, by: int = 1) -> tuple[int, float] | None:
        """See the port."""
        return None

    async def aclose(self) -> None:
        """See the port."""


def open_cache(url: str) -> Cache:
    """The cache at that address; an empty one means none. Raises ValueError."""
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
