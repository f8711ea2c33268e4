"""A real `langgraph dev`: the requests that Studio makes find the graphs, draw them and run them."""

import asyncio
import json
import os
import re
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dialgraph.services.settings import ROOT
from server.access.access_token import access_token


@pytest.fixture(scope="module", autouse=True)
def on_linux() -> None:
    """Skip these tests except on Linux. `langgraph dev` is a tool for developers."""
    if not sys.platform.startswith("linux"):
        pytest.skip("langgraph dev is tested only on Linux")


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Start `langgraph dev` and yield a client of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "DIALGRAPH_DATA_DIR": str(tmp_path / "data"), "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    log = (tmp_path / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "langgraph"), "dev", "--no-browser", "--no-reload", "--port", str(port),
        "--config", str(ROOT / "langgraph.json"), cwd=ROOT, env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        try:
            for _ in range(600):
                assert process.returncode is None, (tmp_path / "log").read_text()[-3000:]
                try:
                    if (await client.get("/ok")).status_code == 200:
                        break
                except httpx2.TransportError:
                    await asyncio.sleep(0.1)
            else:
                raise AssertionError((tmp_path / "log").read_text()[-3000:])
            yield client
        finally:
            process.terminate()
            await process.wait()
            log.close()


async def _events(client: httpx2.AsyncClient, body: dict[str, Any]) -> list[tuple[str, Any]]:
    async with client.stream("POST", "/runs/stream", json=body) as reply:
        text = (await reply.aread()).decode()
    blocks = re.split(r"\r?\n\r?\n", text.strip())
    events = []
    for block in blocks:
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in lines:
            events.append((lines["event"], json.loads(lines.get("data", "null"))))
    return events


async def test_studio_lists_draws_and_runs_the_graphs(studio: httpx2.AsyncClient) -> None:
    assistants = (await studio.post("/assistants/search", json={})).json()
    found = {assistant["graph_id"]: assistant["assistant_id"] for assistant in assistants}
    assert set(found) == {"chat", "rag", "audio", "hangup"}

    drawn = (await studio.get(f"/assistants/{found['hangup']}/graph")).json()
    edges = {(edge["source"], edge["target"], edge.get("conditional", False)) for edge in drawn["edges"]}
    assert edges == {
        ("__start__", "retrieve", False), ("retrieve", "rewrite_messages", True), ("hangup", "end_turn", False),
        ("rewrite_messages", "call_model", False), ("call_model", "hangup", True), ("call_model", "end_turn", True),
        ("end_turn", "__end__", False),
    }  # fmt: skip
    retrieve = next(node for node in drawn["nodes"] if node["id"] == "retrieve")
    assert retrieve["metadata"]["options"] == {"top_k": 4}

    schemas = (await studio.get(f"/assistants/{found['rag']}/schemas")).json()
    assert list(schemas["input_schema"]["properties"]) == ["messages"]
    assert set(schemas["context_schema"]["properties"]) == {"model", "call_id"}
    assert schemas["state_schema"] is not None

    asked = {"messages": [{"role": "user", "content": "Can I bring my dog?"}]}
    body = {"assistant_id": "rag", "input": asked, "stream_mode": ["custom", "values", "messages-tuple"]}
    events = await _events(studio, body)
    said = "".join(data["text"] for name, data in events if name == "custom" and data["type"] == "Say")
    assert said == "Dogs and cats are welcome for 15 euros a night."
    timed = [data["step"] for name, data in events if name == "custom" and data["type"] == "Timing"]
    assert timed == ["acknowledge", "rewrite_question", "retrieve", "rewrite_messages", "call_model"]
    final = [data for name, data in events if name == "values"][-1]
    assert final["messages"][-1]["type"] == "ai"
    assert final["messages"][-1]["content"] == said


async def test_a_thread_continues_and_the_endpoints_are_served_too(studio: httpx2.AsyncClient, tmp_path: Path) -> None:
    thread = (await studio.post("/threads", json={})).json()["thread_id"]
    for question, held in (("When is breakfast?", "Garden Room"), ("How much is the sauna?", "8 euros")):
        body = {"assistant_id": "rag", "input": {"messages": [{"role": "user", "content": question}]}}
        result = (await studio.post(f"/threads/{thread}/runs/wait", json=body)).json()
        assert held in result["messages"][-1]["content"]
    assert [message["type"] for message in result["messages"]] == ["human", "ai", "human", "ai"]

    request = {"messages": [{"role": "user", "content": "Is there a gym?"}], "stream": True}
    refused = await studio.post("/rag/chat/completions", json=request)
    assert refused.status_code == 401, "the endpoints require a key here too"
    bearer = {"authorization": f"Bearer {access_token(tmp_path / 'data')}"}
    reply = await studio.post("/rag/chat/completions", json=request, headers=bearer)
    assert reply.status_code == 200 and reply.text.endswith("data: [DONE]\n\n") and '"content":"The"' in reply.text
