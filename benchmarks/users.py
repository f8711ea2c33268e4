"""Users and conversations. `python -m benchmarks.users [PART…]` runs these parts, and prints ratios within one run:

logins: the time of a wrong password for an existing, an unknown and a disabled user, and for one of 73 bytes.
delay: the delay of the event loop while logins, uploads and 100 streams run.
turns: the time of the 500th turn of a conversation compared with the 10th, and the space that 500 turns take.
"""

import asyncio
import gc
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from sqlalchemy import text as sql

from benchmarks.ticks import loop_delays
from dialgraph.project import ROOT
from tests.support.accounts import answer, somebody
from tests.support.postgres import new_database
from tests.support.serving import Served, serving
from tests.support.upstream import Action, says, upstream

LOGINS_A_SECOND = 10
LOGINS = 120
ROUNDS = 25
STREAMS = 100
SECONDS = 15.0
TURNS = 500


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the values are."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def logins(folder: Path) -> None:
    """Time all kinds of failed logins. They are interleaved, so that noise affects all of them."""
    async with serving(folder, rates={"login": "", "login_address": "", "register": ""}) as served:
        for name in ("ann", "ben"):
            assert (await served.post("/v1/users", {"name": name, "password": "correct horse"})).status == 201
        await served.state.accounts.users.set_disabled("ben", True)
        wrong = {
            "exists": {"name": "ann", "password": "wrong horse"},
            "nobody": {"name": "eve", "password": "wrong horse"},
            "disabled": {"name": "ben", "password": "correct horse"},
            "73 bytes": {"name": "ann", "password": "x" * 73},
        }
        took: dict[str, list[float]] = {kind: [] for kind in wrong}
        replies: set[tuple[int, bytes]] = set()
        for _ in range(LOGINS):
            for kind in random.sample(list(wrong), len(wrong)):
                began = time.perf_counter()
                reply = await served.post("/v1/sessions", wrong[kind])
                took[kind].append(time.perf_counter() - began)
                replies.add((reply.status, reply.body))
        assert len(replies) == 1, "the replies differ"
        usual = statistics.median(took["exists"])
        print(f"logins: {LOGINS} of each, a wrong password of a user who exists takes {usual * 1000:.1f} ms")
        for kind, times in took.items():
            above = sum(one > other for one in times for other in took["exists"]) / LOGINS**2
            print(f"  {kind:10} median {statistics.median(times) / usual:6.3f} ×   AUC {max(above, 1 - above):.3f}")


async def serve(folder: Path, model: str) -> None:
    """Run the server, with a tick of one millisecond in its loop, until its stdin is closed. Print the delays."""
    rates = dict.fromkeys(("login", "login_address", "upload"), "")
    async with serving(folder, models={"main": model}, rates=rates, user_streams=0) as served:
        sys.stdout.write(f"{served.port}\n")
        sys.stdout.flush()
        gc.collect()
        gc.freeze()  # as `dialgraph serve` does
        async with loop_delays() as late:
            await asyncio.to_thread(sys.stdin.read)
    shares = ", ".join(f"p{share * 100:g} {percentile(late, share) * 1000:.1f} ms" for share in (0.5, 0.99, 0.999))
    sys.stdout.write(f"{shares}, worst {max(late) * 1000:.1f} ms\n")


async def delay(folder: Path) -> None:
    """Measure the delay of a server in another process, with the load and the model in this one."""
    words: list[Action] = [("chunk", "word "), ("sleep", 0.05)] * 60
    text = "".join(f"# Part {at}\n\nIt tells of number {at} and of its neighbours.\n\n" for at in range(2000))
    stop, uploads = asyncio.Event(), 0
    statuses: list[int] = []
    async with upstream(default=[*words, ("finish", "stop"), ("done",)]) as up:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.users", "serve", str(folder), up.url, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        served = Served(cast(Any, None), int(await process.stdout.readline()), cast(Any, None))
        ann = await somebody(served)
        base = await ann.base()

        async def try_to_log_in() -> None:
            statuses.append((await served.post("/v1/sessions", {"name": "john_doe", "password": "wrong horse"})).status)

        async def log_in() -> None:
            trying = []
            while not stop.is_set():
                trying.append(asyncio.create_task(try_to_log_in()))
                await asyncio.sleep(1 / LOGINS_A_SECOND)
            await asyncio.gather(*trying)

        async def upload() -> None:
            nonlocal uploads
            while not stop.is_set():
                await ann.upload(base, "a.md", text.encode())
                uploads += 1

        async def talk() -> None:
            while not stop.is_set():
                await served.ask("hi")

        work = [upload, *[talk] * STREAMS, log_in]
        working = [asyncio.create_task(one()) for one in work]
        await asyncio.sleep(SECONDS)
        stop.set()
        await asyncio.gather(*working)
        printed = (await process.communicate(b""))[0].decode().strip()
    told = f"{len(statuses) / SECONDS:.0f} logins/s, {statuses.count(429)} of {len(statuses)} refused with 429"
    print(f"delay: {STREAMS} streams, {uploads} uploads of {len(text) // 1024} KiB, {told}: {printed}")


async def turns(folder: Path) -> None:
    """Measure the turns of one conversation on each database."""
    for database in ("sqlite:", new_database()):
        await turns_on(database, folder / database.partition(":")[0])


async def turns_on(database: str, folder: Path) -> None:
    """Measure the turns of one conversation on this database."""
    question, reply = "q" * 300, "a" * 700
    async with upstream(default=says(reply)) as up:
        settings: dict[str, Any] = {"models": {"main": up.url}, "upstreams": {"gpt": up.url}, "rates": {"turn": ""}}
        settings["database_url"] = database
        async with serving(folder, **settings) as served:
            ann = await somebody(served)
            number = await ann.conversation()
            empty = await room_of(served)
            took = []
            for _ in range(TURNS + ROUNDS):
                began = time.perf_counter()
                answer(await ann.say(number, question))
                took.append(time.perf_counter() - began)
            room = (await room_of(served) - empty) / (TURNS + ROUNDS)
    early, late = statistics.median(took[10 : 10 + ROUNDS]), statistics.median(took[TURNS:])
    said = len(question) + len(reply)
    where, usual = database.partition(":")[0], early * 1000
    print(f"turns on {where}: the {TURNS}th takes {late / early:.2f} × the 10th ({usual:.1f} ms, the model's included)")
    print(f"  room: {room:.0f} bytes a turn of {said} characters; bound 3 × text + 4 KiB = {3 * said + 4096}")


async def room_of(served: Served) -> int:
    """Return the size of the database in bytes, without its journal."""
    database = served.state.services.database
    await database.forget_old_pages()
    pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    wanted = pages if database.engine == "sqlite" else "SELECT pg_database_size(current_database())"
    async with database.reading() as connection:
        return int(await connection.scalar(sql(wanted)) or 0)


async def main(parts: list[str]) -> None:
    """Run these parts, or all of them."""
    for part in parts or ["logins", "delay", "turns"]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            await {"logins": logins, "delay": delay, "turns": turns}[part](Path(folder))


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve(Path(sys.argv[2]), sys.argv[3]))
    else:
        asyncio.run(main(sys.argv[1:]))
