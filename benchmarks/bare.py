"""The baseline: a bare Starlette + aiohttp relay on uvicorn, as one would write it by hand. It does not read events."""

import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

UPSTREAM = os.environ["UPSTREAM"]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open one session for the process."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=75)) as session:
        app.state.session = session
        yield


async def relay(request: Request) -> StreamingResponse:
    """Forward the response event by event."""
    body = await request.body()
    session: aiohttp.ClientSession = request.app.state.session
    headers = {"Content-Type": "application/json"}
    response = await session.post(f"{UPSTREAM}/chat/completions", data=body, headers=headers)

    async def events() -> AsyncIterator[bytes]:
        async with response:
            async for line in response.content:
                if line != b"\n":
                    yield line + b"\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def relay_blocks(request: Request) -> StreamingResponse:
    """Whatever bytes the socket gave, in one piece."""
    body = await request.body()
    session: aiohttp.ClientSession = request.app.state.session
    headers = {"Content-Type": "application/json"}
    response = await session.post(f"{UPSTREAM}/chat/completions", data=body, headers=headers)

    async def blocks() -> AsyncIterator[bytes]:
        async with response:
            async for block in response.content.iter_any():
                yield block

    return StreamingResponse(blocks(), media_type="text/event-stream")


app = Starlette(
    routes=[
        Route("/chat/completions", relay, methods=["POST"]),
        Route("/blocks/chat/completions", relay_blocks, methods=["POST"]),
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1024)
    sys.stdout.write(f"Bare relay on http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=75)
    uvicorn.Server(config).run(sockets=[listener])
