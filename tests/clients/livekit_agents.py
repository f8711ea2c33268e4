"""LiveKit Agents' `openai.LLM` against the server: prints as JSON what each case received."""

import asyncio
import json
import sys
import time
from typing import Any

from livekit.agents import APIConnectOptions, function_tool
from livekit.agents.llm import ChatContext, FunctionCall, FunctionCallOutput
from livekit.plugins import openai

BASE, CASES = sys.argv[1:3]


def context(messages: list[dict[str, Any]]) -> Any:
    """Return OpenAI's messages as a LiveKit context."""
    chat: Any = ChatContext.empty()
    names: dict[str, str] = {}
    for message in messages:
        if message["role"] == "tool":
            called = message["tool_call_id"]
            output = {"call_id": called, "name": names[called], "output": message["content"], "is_error": False}
            chat.insert(FunctionCallOutput(**output))
            continue
        if message.get("content"):
            chat.add_message(role=message["role"], content=message["content"])
        for call in message.get("tool_calls", []):
            names[call["id"]] = call["function"]["name"]
            chat.insert(FunctionCall(call_id=call["id"], **call["function"]))
    return chat


def tool(name: str) -> Any:
    """Return a tool without parameters, like EndCallTool."""

    async def run(raw_arguments: dict[str, object]) -> None:
        """Do nothing. Only a session runs tools."""

    return function_tool(run, raw_schema={"name": name, "parameters": {"type": "object", "properties": {}}})


async def ask(case: dict[str, Any]) -> dict[str, Any]:
    """Send one streamed request. LiveKit hides the finish reason and always asks for usage."""
    told: dict[str, Any] = {"text": "", "tools": [], "finish": None, "usage": None, "error": None}
    options = APIConnectOptions(
        max_retry=case.get("retries") or 0, retry_interval=0.1, timeout=case.get("timeout") or 10
    )
    llm = openai.LLM(model=case["model"], base_url=BASE, api_key="k", extra_headers=case.get("headers") or {})
    tools = [tool(name) for name in case.get("tools") or []]
    began = time.monotonic()
    left = asyncio.timeout(case.get("leave_after"))
    try:
        async with (
            left,
            llm.chat(chat_ctx=context(case["messages"]), tools=tools, conn_options=options) as stream,
        ):
            async for chunk in stream:
                told["usage"] = chunk.usage.total_tokens if chunk.usage else told["usage"]
                if chunk.delta:
                    told["text"] += chunk.delta.content or ""
                    told["tools"] += [[call.name, json.loads(call.arguments)] for call in chunk.delta.tool_calls]
    except Exception as error:  # noqa: BLE001 (any error is part of what the client received)
        if not left.expired():
            told["error"] = f"{type(error).__name__}: {error}" + (f" <- {error.__cause__}" if error.__cause__ else "")
    told["seconds"] = round(time.monotonic() - began, 3)
    await llm.aclose()
    return told


async def main() -> None:
    """Run every case, one after the other."""
    json.dump({case["name"]: await ask(case) for case in json.loads(CASES)}, sys.stdout)


asyncio.run(main())
