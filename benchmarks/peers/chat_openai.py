"""LangGraph and ChatOpenAI behind FastAPI, as one would write it by hand: `stream_mode="messages"` becomes chunks."""

import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import orjson
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import SecretStr

model = ChatOpenAI(model="bench", base_url=os.environ["UPSTREAM"] + "/v1", api_key=SecretStr("none"))


async def answer(state: MessagesState) -> dict[str, Any]:
    """Ask the model."""
    return {"messages": [await model.ainvoke(state["messages"])]}


builder = StateGraph(MessagesState)
builder.add_node("answer", answer)
builder.add_edge(START, "answer")
builder.add_edge("answer", END)
graph = builder.compile()
app = FastAPI()


async def _chunks(messages: list[dict[str, Any]]) -> AsyncIterator[bytes]:
    head = {"id": f"chatcmpl-{uuid4().hex}", "object": "chat.completion.chunk", "created": int(time.time())}
    given: Any = {"messages": messages}
    tokens: AsyncIterator[Any] = graph.astream(given, stream_mode="messages")
    async for token, _ in tokens:
        choice = {"index": 0, "delta": {"content": token.content}, "finish_reason": None}
        yield b"data: " + orjson.dumps({**head, "model": "bench", "choices": [choice]}) + b"\n\n"
    yield b"data: [DONE]\n\n"


@app.post("/chat/completions")
async def complete(body: dict[str, Any]) -> StreamingResponse:
    """Stream one turn."""
    return StreamingResponse(_chunks(body["messages"]), media_type="text/event-stream")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
