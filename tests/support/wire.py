"""A reader of the server's streams, written from the wire rules alone. It shares no code with the encoder.

It refuses everything that breaks some client. Its messages name the rule numbers of `docs/wire.md`.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

FINISHES = {"stop", "tool_calls", "length", "content_filter"}


@dataclass
class Answer:
    """Everything that a client has received at the end."""

    text: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    transcript: str = ""
    audio: list[bytes] = field(default_factory=list)
    audio_ids: set[str] = field(default_factory=set)
    reasoning: str = ""
    finish: str | None = None
    usage: dict[str, int] | None = None
    error: dict[str, Any] | None = None
    chunks: list[dict[str, Any]] = field(default_factory=list)
    comments: int = 0


def read_stream(body: bytes) -> Answer:
    """Return the answer. Raise AssertionError with the rule that the stream breaks."""
    text = body.decode("utf-8")
    assert "\r" not in text and text.endswith("\n\n"), "rule 1: each event ends with an empty line"
    blocks = text[:-2].split("\n\n")
    answer = Answer()
    events: list[str] = []
    for block in blocks:
        assert "\n" not in block, f"rule 1: one line for each event: {block!r}"
        if block == ": ka":
            answer.comments += 1
        else:
            assert block.startswith("data: "), f"rule 1: only data lines: {block!r}"
            events.append(block[6:])
    assert events and events[-1] == "[DONE]" and events.count("[DONE]") == 1, "rule 5: [DONE] exactly once, at the end"
    payloads = [json.loads(event) for event in events[:-1]]
    if payloads and "error" in payloads[-1]:
        error = payloads.pop()
        assert set(error) == {"error"}, "rule 6: an error event has only the key 'error'"
        assert set(error["error"]) == {"message", "type", "param", "code"}, "rule 6: OpenAI's envelope"
        answer.error = error["error"]
    for payload in payloads:
        _chunk(answer, payload)
    if answer.error is None:
        assert answer.finish in FINISHES, "rule 5: exactly one finish reason"
    if payloads:
        heads = {(one["id"], one["created"], one["model"]) for one in payloads}
        assert len(heads) == 1, "rule 2: the same id, created and model in all chunks"
        assert payloads[0]["choices"][0]["delta"].get("role") == "assistant", "rule 3: the role comes first"
        if answer.finish == "tool_calls":
            assert answer.tool_calls, "the finish reason is tool_calls, but there is no tool call"
    for call in answer.tool_calls if answer.error is None else []:
        json.loads(call["arguments"])
    return answer


def _chunk(answer: Answer, chunk: dict[str, Any]) -> None:
    assert chunk["object"] == "chat.completion.chunk", "rule 2"
    assert isinstance(chunk["id"], str) and chunk["id"] and isinstance(chunk["model"], str), "rule 2"
    assert type(chunk["created"]) is int and isinstance(chunk["choices"], list), "rule 2"
    assert "error" not in chunk, "rule 3: no error key next to choices"
    assert answer.usage is None, "rule 5: the usage comes last"
    answer.chunks.append(chunk)
    if not chunk["choices"]:
        assert answer.finish is not None, "rule 5: the usage comes after the finish reason"
        usage = chunk["usage"]
        for key in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert type(usage[key]) is int, "rule 5: usage has three integers"
        answer.usage = usage
        return
    assert len(chunk["choices"]) == 1
    choice = chunk["choices"][0]
    assert choice["index"] == 0 and isinstance(choice["delta"], dict), "rule 2"
    assert answer.finish is None, "rule 5: only the usage comes after the finish reason"
    delta = choice["delta"]
    kinds = [key for key in delta if key != "role" and not (key == "content" and delta["content"] == "")]
    assert len(kinds) <= 1, f"rule 3: a delta holds one kind of content: {delta}"
    if choice["finish_reason"] is not None:
        assert delta == {}, "rule 3: the delta with the finish reason is empty"
        answer.finish = choice["finish_reason"]
    if "content" in delta:
        assert not (delta["content"] and answer.tool_calls), "rule 3: text comes before tool calls"
        answer.text += delta["content"]
    for call in delta.get("tool_calls", ()):
        _tool_call(answer, call)
    if "audio" in delta:
        answer.audio_ids.add(delta["audio"]["id"])
        answer.transcript += delta["audio"].get("transcript", "")
        if "data" in delta["audio"]:
            answer.audio.append(base64.b64decode(delta["audio"]["data"], validate=True))
    answer.reasoning += delta.get("reasoning_content", "")


def _tool_call(answer: Answer, call: dict[str, Any]) -> None:
    assert type(call["index"]) is int, "rule 4: a tool call has an integer index"
    if call["index"] == len(answer.tool_calls):
        assert call["id"] and call["type"] == "function" and call["function"]["name"], (
            "rule 4: the first fragment has id, type and name"
        )
        answer.tool_calls.append({"id": call["id"], "name": call["function"]["name"], "arguments": ""})
    assert call["index"] < len(answer.tool_calls), "rule 4: indexes have no gaps"
    assert isinstance(call["function"]["arguments"], str), "rule 4: arguments are text"
    answer.tool_calls[call["index"]]["arguments"] += call["function"]["arguments"]
