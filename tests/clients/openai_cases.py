"""The openai package, 2.x or 3.x, in each of its ways: prints as JSON what each case received."""

import asyncio
import json
import sys
import time
from typing import Any

import openai

BASE, CASES = sys.argv[1:3]


def tool(name: str) -> dict[str, Any]:
    """Return a strict tool without parameters."""
    parameters = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    return {"name": name, "strict": True, "parameters": parameters}


async def raw(client: openai.AsyncOpenAI, case: dict[str, Any], told: dict[str, Any]) -> None:
    """Iterate over the stream."""
    options: Any = {"tools": [{"type": "function", "function": tool(name)} for name in case.get("tools", [])] or None}
    options = {key: value for key, value in options.items() if value}
    if case.get("usage"):
        options["stream_options"] = {"include_usage": True}
    async with await client.chat.completions.create(
        model=case["model"], messages=case["messages"], stream=True, **options
    ) as stream:
        async for chunk in stream:
            told["usage"] = chunk.usage.total_tokens if chunk.usage else told["usage"]
            for choice in chunk.choices:
                told["text"] += choice.delta.content or ""
                for call in choice.delta.tool_calls or []:
                    told["tools"].append([call.function.name, json.loads(call.function.arguments)])
                told["finish"] = choice.finish_reason or told["finish"]


async def accumulated(client: openai.AsyncOpenAI, case: dict[str, Any], told: dict[str, Any]) -> None:
    """Use the strict accumulator of `.stream()`."""
    options: Any = {}
    if case.get("tools"):
        options["tools"] = [{"type": "function", "function": tool(name)} for name in case["tools"]]
    if case.get("usage"):
        options["stream_options"] = {"include_usage": True}
    async with client.chat.completions.stream(model=case["model"], messages=case["messages"], **options) as stream:
        async for event in stream:
            told["text"] += event.delta if event.type == "content.delta" else ""
        completion = await stream.get_final_completion()
    choice = completion.choices[0]
    calls = choice.message.tool_calls or []
    told["tools"] = [[call.function.name, json.loads(call.function.arguments)] for call in calls]
    told["finish"] = choice.finish_reason
    told["usage"] = completion.usage.total_tokens if completion.usage else None


async def responses(client: openai.AsyncOpenAI, case: dict[str, Any], told: dict[str, Any]) -> None:
    """Use the Responses API, with its own strict accumulator."""
    options: Any = {}
    if case.get("tools"):
        options["tools"] = [{"type": "function", **tool(name)} for name in case["tools"]]
    async with client.responses.stream(model=case["model"], input=case["messages"], **options) as stream:
        async for event in stream:
            told["text"] += event.delta if event.type == "response.output_text.delta" else ""
        response = await stream.get_final_response()
    calls = [item for item in response.output if item.type == "function_call"]
    told["tools"] = [[call.name, json.loads(call.arguments)] for call in calls]
    told["finish"] = "tool_calls" if calls else "stop"
    told["usage"] = response.usage.total_tokens if response.usage else None


async def ask(way: Any, case: dict[str, Any]) -> dict[str, Any]:
    """Send one streamed request. Return what the client received."""
    told: dict[str, Any] = {"text": "", "tools": [], "finish": None, "usage": None, "error": None}
    began = time.monotonic()
    left = asyncio.timeout(case.get("leave_after"))
    async with openai.AsyncOpenAI(
        base_url=BASE, api_key="k", max_retries=0, timeout=case.get("timeout") or 60,
        default_headers=case.get("headers"),
    ) as client:  # fmt: skip
        try:
            async with left:
                await way(client, case, told)
        except Exception as error:  # noqa: BLE001 (any error is part of what the client received)
            if not left.expired():
                told["error"] = f"{type(error).__name__}: {error}"
    told["seconds"] = round(time.monotonic() - began, 3)
    return told


async def main() -> None:
    """Run every case in every way."""
    left = {}
    for way in (raw, accumulated, responses):
        for case in json.loads(CASES):
            left[f"{way.__name__}/{case['name']}"] = await ask(way, case)
    json.dump(left, sys.stdout)


asyncio.run(main())
