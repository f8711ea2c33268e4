"""Limits how often somebody may do something: counted in this process, and in Redis for all processes together.

A window begins with the first request in it and is measured by the monotonic clock, or by Redis' own: a wall clock that
is set back must not lock anybody out (docs/decisions).
"""

import math
import re
import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from starlette.types import Scope

from dialgraph.storage.cache import Cache
from server.connection.networks import address_of, networks
from server.errors import ApiError
from server.settings import USUAL_RATES, Settings, SettingsError

_RATE = re.compile(r"([1-9]\d{0,8}) ?(?:/|per) ?([1-9]\d{0,4})? ?(second|minute|hour|day)s?", re.ASCII)
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
MOST_WINDOWS = 50_000
"""Windows that one process counts. The least recently used one is dropped first."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in so many seconds."""

    most: int
    seconds: int


def read_rate(text: str) -> Rate:
    """Return the rate that a setting such as `10/minute` or `5 per 2 hours` means. Raises SettingsError."""
    read = _RATE.fullmatch(text.strip())
    if read is None:
        raise SettingsError(f"Setting 'rates': {text!r} must read like `10/minute`.")
    return Rate(int(read[1]), int(read[2] or 1) * _SECONDS[read[3]])


class Limiter:
    """Counts requests against the rates of the settings."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self._cache = cache
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Key → how many requests, and when the window ends."""
        self._rates: dict[str, Rate] = {}
        for name, rate in {**USUAL_RATES, **settings.rates}.items():
            if name not in USUAL_RATES:
                raise SettingsError(f"Setting 'rates': no rate {name!r}. Accepted: {', '.join(USUAL_RATES)}.")
            if rate:
                self._rates[name] = read_rate(rate)
        self._proxies = networks(settings.trusted_proxies)

    async def hit(self, name: str, *who: str) -> None:
        """Count one more request. Raises ApiError 429, with the seconds to wait, when the rate is exceeded."""
        rate = self._rates.get(name)
        if rate is None:
            return
        counted, ends = await self._count("/".join((name, *who, str(rate.seconds))), rate.seconds)
        if counted > rate.most:
            wait = max(1, math.ceil(ends - time.monotonic()))
            message = f"Too many requests. Try again in {wait} s."
            raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers={"Retry-After": str(wait)})

    async def _count(self, key: str, seconds: int) -> tuple[int, float]:
        """Count in this process and in Redis, so that this process knows enough when Redis is away."""
        now = time.monotonic()
        counted, ends = self._windows.get(key, (0, 0.0))
        if ends <= now:
            counted, ends = 0, now + seconds
        counted += 1
        shared = await self._cache.count(key, seconds)
        if shared is not None and shared[1] <= seconds + 1:  # a longer window was left by another setting
            counted, ends = max(counted, shared[0]), now + shared[1]
        self._windows[key] = counted, ends
        self._windows.move_to_end(key)
        while len(self._windows) > MOST_WINDOWS:
            self._windows.popitem(last=False)
        return counted, ends

    @property
    def windows(self) -> int:
        """How many windows this process counts."""
        return len(self._windows)

    def address_of(self, scope: Scope, forwarded: str | None) -> str:
        """Return where a request comes from: the peer, or the client that a trusted proxy names.

        Empty if it is not known. Behind a local proxy that is not trusted, or a proxy that names no client,
        everybody has the same address. Addresses of one IPv6 /64 count as one, because its owner has all of them.
        """
        hops = [
            str((scope.get("client") or ("",))[0]),
            *reversed([hop.strip() for hop in (forwarded or "").split(",") if hop.strip()]),
        ]
        place = hops[0]
        for at, hop in enumerate(hops):
            try:
                address = address_of(hop)
            except ValueError:
                break
            place = str(IPv6Network((address, 64), strict=False)) if isinstance(address, IPv6Address) else str(address)
            trusted = any(address in network for network in self._proxies)
            if address.is_loopback or (trusted and at == len(hops) - 1):
                place = ""
            if at == len(hops) - 1 or not trusted:
                break
        return place
