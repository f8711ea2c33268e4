"""LangChain's `ChatOpenAI` against the server: prints as JSON what each case received."""

import asyncio
import json
import sys
import time
from typing import Any

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

BASE, CASES = sys.argv[1:3]


def tool(name: str) -> dict[str, Any]:
    """Return a tool without parameters."""
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}}


async def ask(case: dict[str, Any]) -> dict[str, Any]:
    """Send one streamed request. Return what the client received."""
    told: dict[str, Any] = {"text": "", "tools": [], "finish": None, "usage": None, "error": None}
    model = ChatOpenAI(
        model=case["model"], base_url=BASE, api_key=SecretStr("k"), stream_usage=bool(case.get("usage")),
        timeout=case.get("timeout"), max_retries=case.get("retries") or 0,
        default_headers=case.get("headers"),
    )  # fmt: skip
    asked = model.bind_tools([tool(name) for name in case["tools"]]) if case.get("tools") else model
    whole: Any = None
    began = time.monotonic()
    left = asyncio.timeout(case.get("leave_after"))
    try:
        async with left:
            async for chunk in asked.astream(case["messages"]):
                whole = chunk if whole is None else whole + chunk
    except Exception as error:  # noqa: BLE001 (any error is part of what the client received)
        if not left.expired():
            told["error"] = f"{type(error).__name__}: {error}"
    told["seconds"] = round(time.monotonic() - began, 3)
    if whole is not None:
        told["text"] = whole.text
        told["tools"] = [[call["name"], call["args"]] for call in whole.tool_calls]
        told["finish"] = whole.response_metadata.get("finish_reason")
        told["usage"] = whole.usage_metadata["total_tokens"] if whole.usage_metadata else None
    return told


async def main() -> None:
    """Run every case, one after the other."""
    json.dump({case["name"]: await ask(case) for case in json.loads(CASES)}, sys.stdout)


asyncio.run(main())
