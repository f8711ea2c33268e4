"""litellm or openai-agents against an endpoint that answers in sound: prints as JSON what it received."""

import asyncio
import base64
import json
import sys
from typing import Any

LIBRARY, BASE = sys.argv[1:3]
QUESTION: Any = [{"role": "user", "content": "How much is the sauna?"}]


async def litellm_is_left_with() -> dict[str, Any]:
    """Return what litellm receives: once in sound, once when it asks only for text."""
    import litellm

    async def ask(**fields: Any) -> dict[str, Any]:
        told: dict[str, Any] = {"text": "", "transcript": "", "audio": 0, "finish": None}
        stream: Any = await litellm.acompletion(
            model="openai/audio", api_base=f"{BASE}/audio/v1", api_key="k", messages=QUESTION, stream=True, **fields
        )
        async for chunk in stream:
            choice = chunk.choices[0]
            told["text"] += choice.delta.content or ""
            audio = dict(getattr(choice.delta, "audio", None) or {})
            told["transcript"] += audio.get("transcript") or ""
            told["audio"] += len(base64.b64decode(audio.get("data") or ""))
            told["finish"] = choice.finish_reason or told["finish"]
        return told

    return {"sound": await ask(), "text": await ask(modalities=["text"])}


async def agents_is_left_with() -> dict[str, Any]:
    """Return the text of two runs: on the sound endpoint when text is requested, and on an endpoint without sound."""
    import agents
    import openai

    agents.set_tracing_disabled(True)
    told = {}
    for name, graph, body in (("text", "audio", {"modalities": ["text"]}), ("plain", "rag", {})):
        client = openai.AsyncOpenAI(base_url=f"{BASE}/{graph}/v1", api_key="k", max_retries=0)
        model = agents.OpenAIChatCompletionsModel(model=graph, openai_client=client)
        settings = agents.ModelSettings(extra_body=body)
        agent = agents.Agent(name="a", model=model, model_settings=settings)
        run = agents.Runner.run_streamed(agent, QUESTION[0]["content"])
        async for _ in run.stream_events():
            pass
        told[name] = {"text": run.final_output}
        await client.close()
    return told


json.dump(asyncio.run(litellm_is_left_with() if LIBRARY == "litellm" else agents_is_left_with()), sys.stdout)
