"""How often somebody may do something: counted in this process, and in Redis for all processes together.

The rule and its grammar (`10/minute`) are those of the library `limits`; the counters are ours: its memory storage
walks through all keys behind each hit, and follows a wall clock that may be set back (docs/decisions).
"""

import math
import re
import time
from collections import OrderedDict
from ipaddress import IPv6Address, IPv6Network

from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from starlette.types import Scope

from dialgraph.storage.cache import Cache
from server.connection.networks import address_of, networks
from server.errors import ApiError
from server.settings import USUAL_RATES, Settings, SettingsError

_RATE = re.compile(r"[1-9]\d{0,8} ?(/|per) ?([1-9]\d{0,4} ?)?(second|minute|hour|day)s?", re.ASCII)
MOST_KEYS = 50_000
"""Counters of one process; the one that was not touched for longest goes first."""


class Counters(Storage):
    """Counts in windows that begin with the first hit, by the monotonic clock, or by Redis' own."""

    STORAGE_SCHEME = ["async+dialgraph"]  # noqa: RUF012 (the library's form)

    def __init__(self, cache: Cache) -> None:
        super().__init__("", wrap_exceptions=False)
        self._cache = cache
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Key → how many, and when the window ends."""

    @property
    def base_exceptions(self) -> type[Exception]:
        """What the library would wrap."""
        return ValueError

    async def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        """Count; in both places, so that this process knows enough when Redis is away."""
        now = time.monotonic()
        counted, ends = self._windows.get(key, (0, 0.0))
        if ends <= now:
            counted, ends = 0, now + expiry
        counted += amount
        shared = await self._cache.count(key, math.ceil(expiry), amount)
        if shared is not None and shared[1] <= expiry + 1:  # a window that is longer than ours is not ours
            counted, ends = max(counted, shared[0]), now + shared[1]
        self._windows[key] = counted, ends
        self._windows.move_to_end(key)
        while len(self._windows) > MOST_KEYS:
            self._windows.popitem(last=False)
        return counted

    async def get(self, key: str) -> int:
        """How many there are, as far as this process knows."""
        counted, ends = self._windows.get(key, (0, 0.0))
        return counted if ends > time.monotonic() else 0

    def left(self, key: str) -> float:
        """For how many seconds the window goes on."""
        return max(0.0, self._windows.get(key, (0, 0.0))[1] - time.monotonic())

    async def get_expiry(self, key: str) -> float:
        """When the window ends, by the wall clock."""
        return time.time() + self.left(key)

    async def size(self) -> int:
        """How many windows are kept."""
        return len(self._windows)

    async def check(self) -> bool:
        """It is always there."""
        return True

    async def reset(self) -> int | None:
        """Forget all."""
        count = len(self._windows)
        self._windows.clear()
        return count

    async def clear(self, key: str) -> None:
        """Forget one."""
        self._windows.pop(key, None)


class Limiter:
    """The rates of the settings."""

    def __init__(self, settings: Settings, cache: Cache) -> None:
        self.counters = Counters(cache)
        self._strategy = FixedWindowRateLimiter(self.counters)
        self._rates: dict[str, RateLimitItem] = {}
        for name, rate in {**USUAL_RATES, **settings.rates}.items():
            if name not in USUAL_RATES:
                raise SettingsError(f"Setting 'rates': no rate {name!r}. Accepted: {', '.join(USUAL_RATES)}.")
            if rate and not _RATE.fullmatch(rate.strip()):  # the library reads `10/0 minute` as 10 a minute
                raise SettingsError(f"Setting 'rates': {rate!r} must read like `10/minute`.")
            if rate:
                self._rates[name] = parse(rate)
        self._proxies = networks(settings.trusted_proxies)

    async def hit(self, name: str, *who: str) -> None:
        """Count one more. Raises ApiError 429 with the seconds to wait."""
        rate = self._rates.get(name)
        if rate is not None and not await self._strategy.hit(rate, name, *who):
            wait = max(1, math.ceil(self.counters.left(rate.key_for(name, *who))))
            message = f"Too many requests. Try again in {wait} s."
            raise ApiError(429, message, "rate_limit_error", "too_many_requests", headers={"Retry-After": str(wait)})

    def address_of(self, scope: Scope, forwarded: str | None) -> str:
        """Where a request comes from: the peer, or what a proxy that the settings trust says of it. Empty where that is
        not known: behind a proxy on this machine that nobody trusts, or one that says nothing, everybody is one place.

        Whoever holds an IPv6 network has as many addresses as they like: their /64 is one place.
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
