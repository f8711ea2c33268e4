"""A real `langgraph dev`: the requests that Studio makes find the graphs, draw them and run them."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from dialgraph.project import ROOT
from server.access.access_token import access_token


@pytest.fixture(scope="module", autouse=True)
def on_linux() -> None:
    """Skip these tests except on Linux. `langgraph dev` is a tool for developers."""
    if not sys.platform.startswith("linux"):
        pytest.skip("langgraph dev is tested only on Linux")


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Start `langgraph dev` with our own graphs, and yield a client of it."""
    async with developing(ROOT, tmp_path) as client:
        yield client


@asynccontextmanager
async def developing(folder: Path, tmp_path: Path) -> AsyncIterator[httpx2.AsyncClient]:
    """Start `langgraph dev` in this folder, and yield a client of it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "DIALGRAPH_DATA_DIR": str(tmp_path / "data"), "LANGGRAPH_CLI_NO_ANALYTICS": "1"}
    log = (tmp_path / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "langgraph"), "dev", "--no-browser", "--no-reload", "--port", str(port),
        "--config", str(folder / "langgraph.json"), cwd=folder, env=environment, stdout=log, stderr=log,
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


async def _events(client: httpx2.AsyncClient, body: dict[str, Any], thread: str = "") -> list[tuple[str, Any]]:
    async with client.stream("POST", f"{thread}/runs/stream", json=body) as reply:
        text = (await reply.aread()).decode()
    blocks = re.split(r"\r?\n\r?\n", text.strip())
    events = []
    for block in blocks:
        lines = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(":"))
        if "event" in lines:
            events.append((lines["event"], json.loads(lines.get("data", "null"))))
    return events


async def test_studio_lists_draws_and_runs_the_graphs(studio: httpx2.AsyncClient, tmp_path: Path) -> None:
    assistants = (await studio.post("/assistants/search", json={})).json()
    found = {assistant["graph_id"]: assistant["assistant_id"] for assistant in assistants}
    assert set(found) == {"chat", "rag", "audio", "hangup"}

    drawn = (await studio.get(f"/assistants/{found['hangup']}/graph")).json()
    edges = {(edge["source"], edge["target"], edge.get("conditional", False)) for edge in drawn["edges"]}
    assert edges == {
        ("__start__", "retrieve", False), ("retrieve", "rewrite_messages", True), ("hangup", "__end__", False),
        ("rewrite_messages", "call_model", False), ("call_model", "hangup", True), ("call_model", "__end__", True),
    }  # fmt: skip
    retrieve = next(node for node in drawn["nodes"] if node["id"] == "retrieve")
    assert retrieve["metadata"]["options"] == {"top_k": 4}

    schemas = (await studio.get(f"/assistants/{found['rag']}/schemas")).json()
    assert list(schemas["input_schema"]["properties"]) == ["messages"]
    assert set(schemas["context_schema"]["properties"]) == {"model", "call_id", "caller_number", "source", "host"}
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
    chunks = [data[0] for name, data in events if name == "messages"]
    assert "".join(chunk["content"] for chunk in chunks) == said and len(chunks) > 5
    assert {chunk["id"] for chunk in chunks} == {final["messages"][-1]["id"]}
    assert final["passages"][0]["document"] == "hotel.en.md" and final["passages"][0]["score"] > 0.5
    assert final["prompt"][0]["role"] == "system" and [one["step"] for one in final["steps"]] == timed
    log = (tmp_path / "log").read_text()
    assert "Background run succeeded" in log and "{'event':" not in log, "langgraph dev keeps its own format"


async def test_studio_steps_through_a_graph_and_edits_its_state(studio: httpx2.AsyncClient) -> None:
    thread = f"/threads/{(await studio.post('/threads', json={})).json()['thread_id']}"
    asked = {"messages": [{"role": "user", "content": "Can I bring my dog?"}]}
    body = {"assistant_id": "hangup", "input": asked, "interrupt_before": ["call_model"], "stream_mode": "updates"}
    updates = [data for name, data in await _events(studio, body, thread) if name == "updates"]
    assert [next(iter(one)) for one in updates] == ["retrieve", "rewrite_messages", "__interrupt__"]
    assert "15 euros" in updates[0]["retrieve"]["passages"][0]["text"]
    assert "receptionist" in updates[1]["rewrite_messages"]["prompt"][0]["content"]

    edited = [{"text": "You can bring your dog into the hall.", "document": "new"}]
    changed = await studio.post(f"{thread}/state", json={"values": {"passages": edited}, "as_node": "retrieve"})
    assert changed.status_code == 200, changed.text
    state = (await studio.get(f"{thread}/state")).json()
    assert state["next"] == ["rewrite_messages"] and state["values"]["passages"] == edited
    more = {"assistant_id": "hangup", "input": None, "stream_mode": "values"}
    final = [data for name, data in await _events(studio, more, thread) if name == "values"][-1]
    assert final["messages"][-1]["content"] == "You can bring your dog into the hall."
    assert "You can bring your dog into the hall." in final["prompt"][1]["content"]

    wrong = await studio.post(f"{thread}/state", json={"values": {"route": "hungup"}, "as_node": "call_model"})
    assert wrong.status_code >= 400


async def test_a_new_project_opens_in_studio(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    made = await asyncio.create_subprocess_exec(str(programs / "dialgraph"), "new", "shop", cwd=tmp_path)
    assert await made.wait() == 0
    async with developing(tmp_path / "shop", tmp_path) as client:
        asked = {"messages": [{"role": "user", "content": "hi"}]}
        result = (await client.post("/runs/wait", json={"assistant_id": "shop", "input": asked})).json()
        assert result["prompt"][0]["content"].startswith("You are Vera") and result["messages"][-1]["type"] == "ai"
        assert (await client.get("/ready")).json()["status"] == "ok"


def test_the_image_for_langgraphs_server_has_a_valid_dockerfile(tmp_path: Path) -> None:
    programs = Path(sys.executable).parent
    command = [str(programs / "langgraph"), "dockerfile", str(tmp_path / "Dockerfile"), "--config", "langgraph.json"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    # DL3020: LangGraph adds the project with ADD, where COPY would do.
    lint = [
        str(programs / "hadolint"),
        "--failure-threshold",
        "error",
        "--ignore",
        "DL3020",
        str(tmp_path / "Dockerfile"),
    ]
    linted = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert linted.returncode == 0, linted.stdout
    assert '"rag": {"path": "graphs.rag:graph"' in (tmp_path / "Dockerfile").read_text()
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".env", "data", ".git", ".venv"} <= set(ignored), "no secret and no data gets into an image"


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
