"""Redis may be away, frozen, emptied or poisoned: no turn fails, no data is lost and no caller notices a delay."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from dialgraph.storage.cache import open_cache
from dialgraph.storage.redis_cache import RedisCache
from tests.server.test_backend_api import backend
from tests.support.accounts import Somebody, answer, somebody
from tests.support.redis_server import redis_server
from tests.support.serving import Served


async def turns(who: Somebody, number: int, count: int) -> list[float]:
    """Run `count` turns and return how long each took, in seconds."""
    took = []
    for at in range(count):
        began = time.monotonic()
        assert answer(await who.say(number, f"Turn {at}")) == "Hello there."
        took.append(time.monotonic() - began)
    return took


async def healthy_again(served: Served) -> float:
    """Wait until Redis is used again and return how long that took, in seconds."""
    began = time.monotonic()
    while not served.state.cache.healthy:
        assert time.monotonic() - began < 5
        await asyncio.sleep(0.05)
    return time.monotonic() - began


async def test_no_turn_fails_while_redis_stops_and_starts(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis", started=False) as redis:
        async with backend(tmp_path / "data", redis_url=redis.url) as (served, _):
            ann = await somebody(served)
            number = await ann.conversation()
            await turns(ann, number, 3)
            ready = (await served.get("/ready")).json()
            assert ready["cache"] == "away" and ready["status"] == "ok"
            await redis.start()
            await healthy_again(served)
            await turns(ann, number, 2)
            assert (await served.get("/ready")).json()["cache"] == "ok"
            redis.stop()
            await turns(ann, number, 3)
            await redis.start()
            await healthy_again(served)
            await turns(ann, number, 1)
            assert len(await ann.history(number)) == 18


async def test_only_a_few_requests_wait_for_a_frozen_redis(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as redis:
        async with backend(tmp_path / "data", redis_url=redis.url) as (served, _):
            ann = await somebody(served)
            number = await ann.conversation()
            usual = max(await turns(ann, number, 5))
            redis.freeze()
            took = await turns(ann, number, 12)
            late = [seconds for seconds in took if seconds > usual + 0.15]
            assert len(late) <= 5 and max(took) < usual + 0.65, took
            redis.thaw()
            await healthy_again(served)
            assert len(await ann.history(number)) == 34


async def test_an_emptied_redis_loses_no_data_and_poisoned_entries_are_ignored(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as redis, redis.client() as client:
        async with backend(tmp_path / "data", redis_url=redis.url) as (served, up):
            ann, bob = await somebody(served, "ann"), await somebody(served, "bob")
            number, base = await ann.conversation(), await ann.base()
            await turns(ann, number, 2)
            kept = [key async for key in client.scan_iter("dialgraph:*")]
            assert any(b"conversation:" in key for key in kept) and any(b"who:" in key for key in kept)
            await client.flushall()
            await turns(ann, number, 1)
            await swap(client, b"dialgraph:who:*")
            served.state.accounts.forget(await ann_id(served, "ann"))
            served.state.accounts.forget(await ann_id(served, "bob"))
            theirs = [(await who.get("/v1/me")).json()["name"] for who in (ann, bob)]
            assert theirs == ["ann", "bob"], "an entry in Redis must not decide who a user is"
            async for key in client.scan_iter("dialgraph:*"):
                await client.delete(key)
                await client.set(key, b"\x80\x04cposix\nsystem\n")
            await turns(ann, number, 1)
            async for key in client.scan_iter("dialgraph:*"):
                await client.delete(key)
                await client.lpush(key, "not what it should be")
            await turns(ann, number, 1)
            await client.config_set("maxmemory", "1")
            await turns(ann, number, 2)
            assert len(await ann.history(number)) == 14
            assert (await ann.get("/api/rag/kb/list")).json()["kbs"][0]["kb_id"] == base
            assert len(up.bodies[-1]["messages"]) == 13


async def swap(client: Redis, pattern: bytes) -> None:
    """Give each key that matches the pattern the value of another one."""
    keys = [key async for key in client.scan_iter(pattern)]
    values = [await client.get(key) for key in keys]
    for key, value in zip(keys, [*values[1:], *values[:1]], strict=True):
        await client.set(key, value or b"")


async def ann_id(served: Served, name: str) -> str:
    """Return the id of a user."""
    return (await served.state.accounts.users.known(name)).id


async def test_no_prompt_is_stored_in_redis(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as redis, redis.client() as client:
        async with backend(tmp_path / "data", redis_url=redis.url) as (served, _):
            ann = await somebody(served)
            answer(await ann.say(await ann.conversation(), "zebrafish 4711"))
            everything = [await client.get(key) async for key in client.scan_iter("*")]
            assert everything and not any(b"zebrafish" in (value or b"") for value in everything)


async def test_cancelled_commands_do_not_mix_up_later_answers(tmp_path: Path) -> None:
    async with redis_server(tmp_path / "redis") as redis:
        cache = RedisCache(redis.url)
        for at in range(20):
            await cache.set(f"key-{at}", f"value-{at}".encode(), 60)
        answered = 0
        for round_ in range(25):
            asking = [asyncio.create_task(cache.get(f"key-{at}")) for at in range(20)]
            await asyncio.sleep(0.0002 * (round_ % 5))
            for task in asking[::2]:
                task.cancel()
            found = await asyncio.gather(*asking, return_exceptions=True)
            for at, value in enumerate(found):
                # None is allowed: on a busy machine a command may miss its deadline of 0.2 s.
                assert value in (f"value-{at}".encode(), None) or isinstance(value, asyncio.CancelledError)
            answered += sum(isinstance(value, bytes) for value in found)
        await cache.aclose()
    assert answered


async def test_rate_limits_hold_across_processes_and_without_redis(tmp_path: Path) -> None:
    wrong = {"username": "ann", "password": "wrong password"}
    place = {"x-forwarded-for": "203.0.113.7"}
    shared: dict[str, Any] = {"trusted_proxies": ("127.0.0.1",), "registration": "open", "auth": ""}

    async def tries(first: Served, second: Served) -> list[int]:
        return [(await (first, second)[at % 2].post("/api/users/login", wrong, place)).status for at in range(14)]

    async with redis_server(tmp_path / "redis") as redis:
        data = tmp_path / "data"
        shared["redis_url"] = redis.url
        async with backend(data, **shared) as (first, _), backend(data, **shared) as (second, _):
            statuses = await tries(first, second)
            assert statuses == [401] * 10 + [429] * 4, "ten per minute, for both processes together"
            refused = await first.post("/api/users/login", wrong, place)
            assert 0 < int(refused.headers["retry-after"]) <= 60
            redis.stop()
            assert set(await tries(first, second)) == {429}, "the count must survive the loss of Redis"


def test_a_cache_address_that_is_not_redis_is_refused() -> None:
    with pytest.raises(ValueError, match="no cache for 'memcached'. Accepted: `redis://…`"):
        open_cache("memcached://localhost")
