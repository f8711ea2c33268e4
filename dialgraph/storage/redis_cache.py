"""Redis with a circuit breaker: at most 0.2 s per command, and no retries.

After two failures in a row no command is sent until a background check succeeds. With redis-py's own timeouts and
retries a frozen server delayed a command by 9 s (measured with redis-py 8.1). A server that is away must not cause a
delay that a caller can hear.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 0.2
MOST_FAILURES = 2
"""How many failures in a row stop all commands."""
LOOK_SECONDS = 1.0
"""How often a server that does not answer is checked."""
PREFIX = "dialgraph:"
_COUNT = """
local counted = redis.call('INCRBY', KEYS[1], ARGV[2])
if counted == tonumber(ARGV[2]) or redis.call('PTTL', KEYS[1]) < 0 then
    redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return {counted, redis.call('PTTL', KEYS[1])}
"""
Found = TypeVar("Found")


class RedisCache:
    """A cache in Redis that stops using a server that does not answer."""

    def __init__(self, url: str) -> None:
        self._redis: Redis = Redis.from_url(
            url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            max_connections=100,
        )
        self._failures = 0
        self._looking: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Return whether Redis answers."""
        return self._looking is None

    async def get(self, key: str) -> bytes | None:
        """Return the value from Redis; None if there is none or Redis does not answer."""
        found = await self._ask(lambda: self._redis.get(PREFIX + key))
        return found if isinstance(found, bytes) else None

    async def set(self, key: str, value: bytes, seconds: int) -> None:
        """Store the value in Redis for this many seconds."""
        await self._ask(lambda: self._redis.set(PREFIX + key, value, ex=seconds))

    async def delete(self, *keys: str) -> None:
        """Delete the keys from Redis."""
        if keys:
            await self._ask(lambda: self._redis.delete(*(PREFIX + key for key in keys)))

    async def count(self, key: str, seconds: int, by: int = 1) -> tuple[int, float] | None:
        """Count in Redis, with one script, so that the count and the end of the window are set together."""
        found = await self._ask(partial(self._counted, PREFIX + key, seconds * 1000, by))
        match found:
            case [int(counted), int(left)]:
                return counted, max(left, 0) / 1000
        return None

    async def _counted(self, key: str, milliseconds: int, by: int) -> Any:
        return await self._redis.eval(_COUNT, 1, key, str(milliseconds), str(by))

    async def aclose(self) -> None:
        """Stop the background check and close the connections."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
        await self._redis.aclose()

    async def _ask(self, call: Callable[[], Awaitable[Found]]) -> Found | None:
        if self._looking is not None:
            return None
        began = time.monotonic()
        try:
            # A separate timeout, because redis-py's timeout starts again with each read of an answer.
            async with asyncio.timeout(TIMEOUT_SECONDS):
                found = await call()
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            self._failed(error, time.monotonic() - began)
            return None
        self._failures = 0
        return found

    def _failed(self, error: Exception, seconds: float) -> None:
        self._failures += 1
        if self._failures >= MOST_FAILURES and self._looking is None:
            log.warning("redis did not answer; the server continued without it", extra={"reason": type(error).__name__})
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Check Redis until it answers again. Only this check ends the outage, not an answer to an earlier command."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                async with asyncio.timeout(TIMEOUT_SECONDS):
                    await self._redis.set(f"{PREFIX}look", b"1", ex=60)
            except (RedisError, OSError, TimeoutError):
                continue
            log.warning("redis answered again")
            self._failures, self._looking = 0, None
            return
