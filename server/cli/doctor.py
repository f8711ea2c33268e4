"""`dialgraph doctor`: shows what is in force, tries everything once, and says what to do about what fails."""

import asyncio
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from dialgraph.services.services import OpenServices
    from server.settings import Settings

_PACKAGES = ("dialgraph", "langgraph", "langchain-core", "fastapi", "uvicorn", "faiss-cpu", "numpy")
_QUESTION = "Say hello in one word."
_SECONDS = 30.0
"""The time limit of one trial."""

Trial = tuple[str, Callable[[], Awaitable[str]], str]
"""What is tried, the trial, which returns what it saw, and what to do if it fails."""


def doctor() -> None:
    """Show the settings in force and their sources, and try the graphs, models, stores, voices and databases."""
    from dialgraph.project import described
    from server.settings import load_settings

    typer.echo(described(always=True))
    typer.echo(f"Python {sys.version.split()[0]} · " + " · ".join(f"{name} {_version(name)}" for name in _PACKAGES))
    settings = load_settings()
    typer.echo("\nSettings that differ from their defaults:")
    for line in list(_differing(settings)) or ["none"]:
        typer.echo(f"  {line}")
    typer.echo("")
    if not asyncio.run(_try_all(settings)):
        raise typer.Exit(1)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "?"


def _differing(settings: "Settings") -> Iterator[str]:
    """Yield each setting that somebody has set, with its source. A secret is only said to be set."""
    from server.setting_sources import read_sources, variable_of

    sources = read_sources()
    fields = type(settings).model_fields
    for name, one in fields.items():
        if place := sources.place_of([name], fields):
            yield f"{variable_of(name, one)} = {_hidden(getattr(settings, name))}  (from {place})"


def _hidden(value: Any) -> str:
    """Return a value without its secrets. A URL can contain a password."""
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return "(set)" if value.get_secret_value() else "(empty)"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_hidden(getattr(one, 'url', one))}" for name, one in value.items()) + "}"
    text = str(value)
    scheme, found, rest = text.partition("://")
    return f"{scheme}://(hidden)@{rest.rpartition('@')[2]}" if found and "@" in rest else text


async def _try_all(settings: "Settings") -> bool:
    """Try everything, and print a line for each. Return whether everything works."""
    from dialgraph.services.services import OpenServices

    services = OpenServices(settings)
    well = True
    try:
        for what, trial, cure in _trials(settings, services):
            began = time.monotonic()
            try:
                async with asyncio.timeout(_SECONDS):
                    seen = await trial()
                typer.echo(f"ok    {what}: {seen} ({(time.monotonic() - began) * 1000:.0f} ms)")
            except Exception as error:  # noqa: BLE001 (every engine has its own errors; the line shows which one it was)
                well = False
                reason = _without(what, " ".join(str(error).split()) or type(error).__name__)
                typer.echo(f"FAIL  {what}: {reason}\n      {cure}")
    finally:
        await services.aclose()
    return well


def _without(what: str, reason: str) -> str:
    """Return the reason without the words that the line begins with."""
    return reason.removeprefix(f"{what}: ")


def _trials(settings: "Settings", services: "OpenServices") -> Iterator[Trial]:
    yield "graphs", partial(_graphs, services), "`dialgraph graphs check` shows each mistake on a line of its own."
    yield "database", partial(_database, services), "See DIALGRAPH_DATABASE_URL in docs/settings.md."
    if settings.redis_url.get_secret_value():
        cure = "Start Redis, or leave DIALGRAPH_REDIS_URL empty: one server works without it."
        yield "redis", partial(_redis, settings), cure
    for name in settings.model_addresses():
        cure = "See docs/models.md. The main model is set by OPENAI_API_KEY, LLM_BASE_URL and LLM_MODEL."
        yield f"model {name!r}", partial(_model, services, name), cure
    for name in settings.store_urls():
        yield f"store {name!r}", partial(_store, services, name), "See docs/knowledge.md."
    for name in settings.voice_addresses():
        yield f"voice {name!r}", partial(_voice, services, name), "See docs/speech.md."
    yield "port", partial(_port, settings), "Stop the other program, or set DIALGRAPH_PORT or `serve --port`."


async def _graphs(services: "OpenServices") -> str:
    from dialgraph.project import langgraph_file
    from server.endpoints import load_endpoints, open_names

    endpoints = load_endpoints(langgraph_file())
    open_names(endpoints, services)
    return ", ".join(endpoints)


async def _database(services: "OpenServices") -> str:
    await services.database.open()
    if not await services.database.answers():
        raise ConnectionError("it does not answer")
    return services.database.engine


async def _redis(settings: "Settings") -> str:
    from dialgraph.storage.cache import open_cache

    cache = open_cache(settings.redis_url.get_secret_value())
    try:
        await cache.set("doctor", b"1", 10)
        if await cache.get("doctor") != b"1":
            raise ConnectionError("it does not answer")
    finally:
        await cache.aclose()
    return "answers"


async def _model(services: "OpenServices", name: str) -> str:
    """Ask the model, and return what it said first. The time of the line is the time of its first word."""
    from contextlib import AsyncExitStack, aclosing

    from dialgraph.models.parts import Say
    from dialgraph.models.port import ChatRequest

    model = services.model(name)
    async with AsyncExitStack() as stack:
        messages = [{"role": "user", "content": _QUESTION}]
        async with aclosing(model.stream(ChatRequest(messages, {"max_tokens": 200}), stack)) as parts:
            async for part in parts:
                if isinstance(part, Say) and part.text.strip():
                    return f"first word {part.text.strip()[:20]!r}"
    raise ValueError("it said nothing")


async def _store(services: "OpenServices", name: str) -> str:
    from dialgraph.environment import in_thread

    store: Any = await in_thread(services.store, name)
    documents = await store.documents()
    return f"{len(documents)} documents" if len(documents) != 1 else "1 document"


async def _voice(services: "OpenServices", name: str) -> str:
    from contextlib import aclosing

    async with aclosing(services.voice(name).speak("Hello.")) as sounds:
        async for _ in sounds:
            return "speaks"
    raise ValueError("it gave no sound")


async def _port(settings: "Settings") -> str:
    with socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        trial.bind((settings.host, settings.port))
    return f"{settings.host}:{settings.port} is free"
