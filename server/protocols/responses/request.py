"""A request of the Responses API → a request of chat completions, which the tolerant reader then reads."""

from collections.abc import Mapping
from typing import Any, Final

import orjson

from server.errors import ApiError
from server.protocols.chat_completions.request import CompletionRequest, read_request

_RENAMED: Final = {"max_output_tokens": "max_completion_tokens"}
_OURS: Final = frozenset(
    {
        "input", "instructions", "tools", "tool_choice", "text", "reasoning", "store", "include", "truncation",
        "prompt_cache_key", "prompt_cache_retention", "safety_identifier", "service_tier", "background",
        "previous_response_id", "conversation", "prompt", "max_tool_calls", "top_logprobs", "stream_options",
    }
)  # fmt: skip
"""Fields that are translated below, or that have no meaning here because this API stores nothing."""
_STORED: Final = ("previous_response_id", "conversation", "prompt")


def read_responses_request(
    data: Mapping[str, Any], headers: Mapping[str, str], query: Mapping[str, str], principal: str = ""
) -> CompletionRequest:
    """Return the request, read from the body's JSON.

    Raises ApiError 400 that names a field which is not valid, or which refers to stored data.
    """
    for name in _STORED:
        if data.get(name) is not None:
            raise _refuse(name, f"`{name}` is not supported, because responses are not stored: send the whole `input`.")
    if data.get("background"):
        raise _refuse("background", "`background` must be false: background responses are not supported.")
    chat = {_RENAMED.get(key, key): value for key, value in data.items() if key not in _OURS}
    chat["messages"] = [*_instructions(data), *_messages(data.get("input"))]
    if tools := data.get("tools"):
        chat["tools"] = _tools(tools)
    choice = data.get("tool_choice")
    if choice is not None:
        named = isinstance(choice, Mapping) and "name" in choice
        chat["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}} if named else choice
    chat |= _format(data)
    # Responses always include their usage.
    chat["stream_options"] = {"include_usage": True}
    return read_request(chat, headers, query, principal)


def _instructions(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    text = data.get("instructions")
    if text is not None and not isinstance(text, str):
        raise _refuse("instructions", "`instructions` must be text.")
    return [{"role": "system", "content": text}] if text else []


def _messages(given: object) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise _refuse("input", "`input` must be text or a list with at least one item.")
    messages: list[dict[str, Any]] = []
    for at, item in enumerate(given):
        where = f"input[{at}]"
        if not isinstance(item, Mapping):
            raise _refuse(where, f"`{where}` must be an object.")
        kind = item.get("type", "message")
        if kind == "message":
            messages.append({"role": item.get("role"), "content": _content(item.get("content"), where)})
        elif kind == "function_call":
            call = {"id": item.get("call_id"), "type": "function"}
            call["function"] = {"name": item.get("name"), "arguments": item.get("arguments") or "{}"}
            if messages and messages[-1]["role"] == "assistant":
                messages[-1].setdefault("tool_calls", []).append(call)
            else:
                messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        elif kind == "function_call_output":
            output = item.get("output")
            content = output if isinstance(output, str) else _json(output, where)
            messages.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": content})
        elif kind == "item_reference":
            raise _refuse(
                where,
                f"`{where}` refers to a stored item, but items are not stored: send the whole item (in the AI SDK: "
                "`providerOptions: {openai: {store: false}}`, or `openai.chat(model)`).",
            )
        elif kind != "reasoning":
            raise _refuse(f"{where}.type", f"`{where}.type` {kind!r} is not supported.")
    return messages


def _json(value: object, where: str) -> str:
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # orjson reads deeper nesting than it writes
        raise _refuse(where, f"`{where}` is nested too deeply.") from None


def _content(content: object, where: str) -> object:
    """Return a text as it is, and a list of parts in the form of chat completions."""
    if not isinstance(content, list):
        return content
    parts = [_part(part, where) for part in content]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    return "".join(texts) if len(texts) == len(parts) else parts


def _part(part: object, where: str) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, Mapping):
        kind = part.get("type")
        if kind in ("input_text", "output_text", "text", "refusal"):
            return {"type": "text", "text": str(part.get("text") or part.get("refusal") or "")}
        if kind == "input_image" and isinstance(part.get("image_url"), str):
            image = {"url": part["image_url"]}
            if part.get("detail"):
                image["detail"] = part["detail"]
            return {"type": "image_url", "image_url": image}
        if kind == "input_audio":
            return dict(part)
    raise _refuse(f"{where}.content", f"`{where}.content` has a part that is not supported.")


def _tools(tools: object) -> list[Any]:
    if not isinstance(tools, list):
        raise _refuse("tools", "`tools` must be a list.")
    nested = []
    for at, tool in enumerate(tools):
        if not isinstance(tool, Mapping) or tool.get("type") != "function":
            raise _refuse(f"tools[{at}]", f"`tools[{at}]` must be a function: hosted tools are not supported.")
        if "function" in tool:
            nested.append(tool)
        else:
            function = {key: value for key, value in tool.items() if key != "type" and value is not None}
            nested.append({"type": "function", "function": function})
    return nested


def _format(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of `text` and `reasoning` under their names in chat completions."""
    text, reasoning = data.get("text"), data.get("reasoning")
    found: dict[str, Any] = {}
    if isinstance(text, Mapping):
        wanted = text.get("format")
        if isinstance(wanted, Mapping) and wanted.get("type") == "json_schema":
            schema = {key: value for key, value in wanted.items() if key != "type"}
            found["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif isinstance(wanted, Mapping) and wanted.get("type") == "json_object":
            found["response_format"] = {"type": "json_object"}
        if text.get("verbosity"):
            found["verbosity"] = text["verbosity"]
    if isinstance(reasoning, Mapping) and reasoning.get("effort"):
        found["reasoning_effort"] = reasoning["effort"]
    return found


def _refuse(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
