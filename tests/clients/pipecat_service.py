"""Pipecat's `OpenAILLMService` against the server: prints as JSON what each case received."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from pipecat.adapters.llm.schemas.function_schema import FunctionSchema
from pipecat.adapters.llm.schemas.tools_schema import ToolsSchema
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.openai.llm import OpenAILLMService

BASE, CASES = sys.argv[1:3]


def schema(names: list[str]) -> Any:
    """Return tools without parameters."""
    functions = [FunctionSchema(name=name, description=name, properties={}, required=[]) for name in names]
    return ToolsSchema(standard_tools=functions)


async def ask(case: dict[str, Any]) -> dict[str, Any]:
    """Send one streamed request, without a pipeline. Pipecat ignores the finish reason and always asks for usage."""
    told: dict[str, Any] = {"text": "", "tools": [], "finish": None, "usage": None, "error": None}
    extra = {"timeout": case["timeout"]} if case.get("timeout") else dict(case.get("extra", {}))
    settings = OpenAILLMService.Settings(model=case["model"], extra=extra)
    service: Any = OpenAILLMService(base_url=BASE, api_key="k", settings=settings, default_headers=case.get("headers"))
    service._client.max_retries = case.get("retries") or 0  # the default of openai, two retries, would only take time

    async def heard(text: str) -> None:
        told["text"] += text

    async def pushed(frame: Any, *_: Any) -> None:
        told["text"] += getattr(frame, "text", "")  # the transcript of an audio answer

    async def called(calls: Sequence[Any]) -> None:
        told["tools"] += [[call.function_name, call.arguments] for call in calls]

    async def counted(usage: Any) -> None:
        told["usage"] = usage.total_tokens

    service._push_llm_text, service.push_frame = heard, pushed
    service.run_function_calls, service.start_llm_usage_metrics = called, counted
    tools = {"tools": schema(case["tools"])} if case.get("tools") else {}
    began = time.monotonic()
    left = asyncio.timeout(case.get("leave_after"))
    try:
        async with left:
            await service._process_context(LLMContext(messages=case["messages"], **tools))
    except Exception as error:  # noqa: BLE001 (Pipecat turns any error into an ErrorFrame)
        if not left.expired():
            told["error"] = f"{type(error).__name__}: {error}"
    told["seconds"] = round(time.monotonic() - began, 3)
    await service._client.close()
    return told


async def main() -> None:
    """Run every case, one after the other."""
    json.dump({case["name"]: await ask(case) for case in json.loads(CASES)}, sys.stdout)


asyncio.run(main())
