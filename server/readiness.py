"""Whether the server can take calls: the report of `/ready`. It checks databases at most once a second."""

import asyncio
import time
from typing import Any

from dialgraph.models.breaker import Health
from dialgraph.services.services import OpenServices
from dialgraph.storage.cache import Cache

_LOOK_SECONDS = 1.0


class Readiness:
    """Checks the database and everything that was opened."""

    def __init__(self, services: OpenServices, cache: Cache) -> None:
        self._services = services
        self._cache = cache
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._database: Health = "up"
        self._stores: dict[str, Health] = {}

    async def report(self) -> dict[str, Any]:
        """Return `status` (`ok`, or `away` while the database is not available), and the health of the database, each
        model, store and voice, and the cache.
        """
        async with self._looking:
            if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
                await self._look()
                self._looked_at = time.monotonic()
        return {
            "status": "ok" if self._database == "up" else "away",
            "database": self._database,
            "models": self._services.model_health(),
            "stores": self._stores,
            "voices": self._services.voice_health(),
            "cache": "ok" if self._cache.healthy else "away",  # everything works without the cache
        }

    async def _look(self) -> None:
        services = self._services
        there, self._stores = await asyncio.gather(services.database.answers(), services.store_health())
        self._database = "up" if there else "down"
