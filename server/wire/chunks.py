"""The encoder: a turn's events → `chat.completion.chunk` objects that every client reads.

Pure. It owns what it emits: one id, one created, one model in every chunk; the role first; one kind of thing a delta;
exactly one finish; usage last and only if asked for.
"""

import base64
from collections.abc import Iterator
from typing import Any, assert_never

from nodes.events import Audio, Event, Finish, Relay, Say, Timing, ToolCall, ToolCallPart, Transcript, Usage

Chunk = dict[str, Any]


class ChunkEncoder:
    """Encodes one turn for one reader."""

    def __init__(self, *, id: str, created: int, model: str, include_usage: bool = False) -> None:  # noqa: A002 (the wire's word)
        self._head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        self._include_usage = include_usage
        self._begun = False
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._calls = 0
        self._offset = 0
        """Tool calls that a model began before: a second model's, or ours, go on counting."""

    def encode(self, event: Event) -> Iterator[Chunk]:
        """The chunks that this event makes; often one, often none."""
        match event:
            case Say(text=text, logprobs=logprobs):
                if text:
                    yield from self._begin()
                    yield self._chunk({"content": text}, logprobs=logprobs)
            case ToolCallPart():
                yield from self._begin()
                yield self._tool_call_part(event)
            case ToolCall(id=identity, name=name, arguments=arguments):
                yield from self._begin()
                call = {"index": self._calls, "id": identity, "type": "function"}
                yield self._chunk({"tool_calls": [{**call, "function": {"name": name, "arguments": arguments}}]})
                self._calls += 1
            case Relay(delta=delta):
                yield from self._begin()
                yield self._chunk(dict(delta))
            case Transcript(id=identity, text=text):
                yield from self._begin()
                yield self._chunk({"audio": {"id": identity, "transcript": text}})
            case Audio(id=identity, pcm=pcm):
                yield from self._begin()
                yield self._chunk({"audio": {"id": identity, "data": base64.b64encode(pcm).decode()}})
            case Usage():
                self._usage = event if self._usage is None else _sum(self._usage, event)
            case Finish(reason=reason):
                self._reason = reason
            case Timing():
                pass
            case _:
                assert_never(event)

    def end(self) -> Iterator[Chunk]:
        """The finish chunk, and the usage if it was asked for and is known."""
        yield from self._begin()
        yield self._chunk({}, finish_reason=self.finish_reason)
        if self._include_usage and self._usage is not None:
            yield {**self._head, "choices": [], "usage": usage_data(self._usage)}

    @property
    def finish_reason(self) -> str:
        """Why the answer ended. With a tool call in it a plain stop would make hosts miss the call."""
        if self._reason is None:
            return "tool_calls" if self._calls else "stop"
        return self._reason

    def _begin(self) -> Iterator[Chunk]:
        if not self._begun:
            self._begun = True
            yield self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: Chunk, *, finish_reason: str | None = None, logprobs: object = None) -> Chunk:
        choice: Chunk = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        return {**self._head, "choices": [choice]}

    def _tool_call_part(self, part: ToolCallPart) -> Chunk:
        if part.name is not None and part.index == 0:
            self._offset = self._calls
        index = self._offset + part.index
        self._calls = max(self._calls, index + 1)
        call: Chunk = {"index": index}
        if part.name is not None:
            call |= {"id": part.id, "type": "function"}
            call["function"] = {"name": part.name, "arguments": part.arguments}
        else:
            call["function"] = {"arguments": part.arguments}
        return self._chunk({"tool_calls": [call]})


def usage_data(usage: Usage) -> dict[str, Any]:
    """OpenAI's form: the three counts, and what else the upstream said."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        **usage.details,
    }


def _sum(first: Usage, second: Usage) -> Usage:
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
        first.total_tokens + second.total_tokens,
        second.details,
    )
