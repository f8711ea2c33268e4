"""The openai package, 2.x or 3.x, against the server: prints as JSON what each request received."""

import base64
import json
import sys
from typing import Any

import openai

BASE, FAILING = sys.argv[1:3]
"""The address of a server with the embedded model, and of one whose upstream fails."""
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "hangup",
        "strict": True,
        "parameters": {"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    },
}


def client(graph: str, base: str = BASE) -> openai.OpenAI:
    """Return a client of one endpoint."""
    return openai.OpenAI(base_url=f"{base}/{graph}/v1", api_key="k", max_retries=0)


def user(content: str) -> list[Any]:
    """Return a list of one user message."""
    return [{"role": "user", "content": content}]


def raw(graph: str, content: str, base: str = BASE, **fields: Any) -> dict[str, Any]:
    """Iterate over the stream. Return what the client received."""
    told: dict[str, Any] = {"text": "", "audio": 0, "transcript": "", "tools": [], "finish": None, "usage": None}
    told["error"] = None
    options: Any = {"model": graph, "stream_options": {"include_usage": True}, **fields}
    try:
        with client(graph, base) as one:
            for chunk in one.chat.completions.create(messages=user(content), stream=True, **options):
                told["usage"] = chunk.usage.total_tokens if chunk.usage else told["usage"]
                for choice in chunk.choices:
                    told["text"] += choice.delta.content or ""
                    audio = dict(getattr(choice.delta, "audio", None) or {})  # 2.x gives a dict, 3.x a model
                    told["transcript"] += audio.get("transcript") or ""
                    told["audio"] += len(base64.b64decode(audio.get("data") or ""))
                    for call in choice.delta.tool_calls or []:
                        told["tools"].append([call.function.name, json.loads(call.function.arguments)])
                    told["finish"] = choice.finish_reason or told["finish"]
    except openai.APIError as error:
        told["error"] = [getattr(error, "status_code", None), error.code, error.message]
    return told


def accumulated(graph: str, content: str, **fields: Any) -> dict[str, Any]:
    """Use the strict accumulator of `.stream()`. Return what the client received."""
    with client(graph) as one, one.chat.completions.stream(model=graph, messages=user(content), **fields) as stream:
        for _ in stream:
            pass
        completion = stream.get_final_completion()
    choice = completion.choices[0]
    tools = [[call.function.name, json.loads(call.function.arguments)] for call in choice.message.tool_calls or []]
    audio = getattr(choice.message, "audio", None)  # 2.x gives a dict, 3.x a model
    words = [] if audio is None else (audio if isinstance(audio, dict) else audio.model_dump()).get("words", [])
    told = {"text": choice.message.content, "tools": tools, "finish": choice.finish_reason}
    return {**told, "words": [word["text"] for word in words]}


def whole(graph: str, content: str) -> dict[str, Any]:
    """Send a request that is not streamed. Return the text and the finish reason."""
    with client(graph) as one:
        completion = one.chat.completions.create(model=graph, messages=user(content))
    choice = completion.choices[0]
    return {"text": choice.message.content, "finish": choice.finish_reason}


with client("chat") as listing:
    models = [model.id for model in listing.models.list().data]
json.dump(
    {
        "version": openai.__version__,
        "models": models,
        "chat": raw("chat", "hello"),
        "rag": raw("rag", "Can I bring my dog?"),
        "audio": raw("audio", "How much is the sauna?"),
        "audio_stream": accumulated("audio", "How much is the sauna?"),
        "hangup": raw("hangup", "Thanks, bye!", tools=[TOOL]),
        "chat_stream": accumulated("chat", "hello"),
        "rag_stream": accumulated("rag", "Can I bring my dog?"),
        "hangup_stream": accumulated("hangup", "Thanks, bye!", tools=[TOOL]),
        "rag_whole": whole("rag", "Can I bring my dog?"),
        "error_before": raw("chat", "FAIL BEFORE", FAILING),
        "error_after": raw("chat", "FAIL AFTER", FAILING),
    },
    sys.stdout,
)
