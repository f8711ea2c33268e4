"""Pipecat's `OpenAILLMService` against our endpoints: prints what each case was left with, as JSON."""

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
    """Tools without parameters."""
    functions = [FunctionSchema(name=name, description=name, properties={}, required=[]) for name in names]
    return ToolsSchema(standard_tools=functions)


async def ask(case: dict[str, Any]) -> dict[str, Any]:
    """One streamed request, without a pipeline. Pipecat ignores the finish reason, and always wants the usage."""
    told: dict[str, Any] = {"text": "", "tools": [], "finish": None, "usage": None, "error": None}
    extra = {"timeout": case["timeout"]} if case.get("timeout") else dict(case.get("extra", {}))
    settings = OpenAILLMService.Settings(model=case["model"], extra=extra)
    service: Any = OpenAILLMService(base_url=BASE, api_key="k", settings=settings, default_headers=case.get("headers"))
    service._client.max_retries = case.get("retries") or 0  # it leaves openai's two, which would only cost time

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
    except Exception as error:  # noqa: BLE001 (Pipecat makes an ErrorFrame of whatever it is)
        if not left.expired():
            told["error"] = f"{type(error).__name__}: {error}"
    told["seconds"] = round(time.monotonic() - began, 3)
    await service._client.close()
    return told


async def main() -> None:
    """Every case, one after the other."""
    json.dump({case["name"]: await ask(case) for case in json.loads(CASES)}, sys.stdout)


asyncio.run(main())
