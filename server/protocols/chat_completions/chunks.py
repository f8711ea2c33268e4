"""The encoder: a turn's events → `chat.completion.chunk` objects that every client can read.

Pure. Every chunk has the same id, created and model. The role comes first. A delta holds one kind of content. There is
exactly one finish. Usage comes last, and only if requested. Tool calls wait until the words are over, and each is sent
whole in one chunk: so no host acts in the middle of a sentence, and an error never leaves half a call. Differences
between hosts come from the profile.
"""

import base64
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import Any, assert_never

from dialgraph.profiles.openai import PROFILE as OPENAI
from dialgraph.profiles.profile import Profile
from dialgraph.speech.port import Word
from dialgraph.turn.events import (
    Action,
    Audio,
    Citations,
    Event,
    Failed,
    Fallback,
    Filler,
    Finish,
    Metadata,
    Relay,
    Say,
    Timing,
    ToolCallPart,
    Transcript,
    Usage,
    Words,
)
from dialgraph.turn.host_tools import host_call

Chunk = dict[str, Any]


FINISH_REASONS = frozenset({"stop", "length", "content_filter", "tool_calls"})


class ChunkEncoder:
    """Encodes one turn for one client."""

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 (the name on the wire)
        created: int,
        model: str,
        include_usage: bool = False,
        profile: Profile = OPENAI,
        session: str = "",
    ) -> None:
        self._head = {"id": id, "object": "chat.completion.chunk", "created": created, "model": model}
        if profile.echoes_session and session:
            self._head["system_fingerprint"] = session
        self._profile = profile
        self._include_usage = include_usage
        self.begun = False
        """Whether the role was sent."""
        self._reason: str | None = None
        self._usage: Usage | None = None
        self._calls: list[Chunk] = []
        self._action: Action | None = None
        self._citations: list[dict[str, Any]] | None = None
        self._words = 0
        self._open: dict[int, Chunk] = {}
        """The tool calls of the answering model, by its own index."""

    def rename(self, identity: str) -> None:
        """Give the chunks another id. Call it before the first chunk."""
        self._head["id"] = identity

    def encode(self, event: Event) -> Iterator[Chunk]:
        """Yield the chunks of this event: often one, often none."""
        match event:
            case Say(text=text, logprobs=logprobs):
                if text:
                    yield from self._begin()
                    yield self._chunk({"content": text}, logprobs=logprobs)
            case ToolCallPart(index=index, id=identity, name=name, arguments=arguments, extra=extra):
                if name is not None:
                    self._open[index] = self._hold(identity or "", name)
                    if self._profile.keeps_extras:
                        self._open[index].update(extra)
                if index in self._open:
                    self._open[index]["function"]["arguments"] += arguments
            case Filler(text=text):
                yield from self._begin()
                yield self._chunk({"content": self._profile.filler(text)})
            case Action():
                self._action = self._action or event
            case Metadata(data=data):
                if self._profile.metadata_chunk and not self.begun:
                    yield {**self._head, "object": "chat.completion.custom_metadata", "choices": [], "metadata": data}
            case Citations(passages=passages):
                self._citations = [asdict(passage) for passage in passages]
            case Relay(delta=delta):
                yield from self._begin()
                yield from (self._chunk({key: value}) for key, value in delta.items())
            case Transcript(id=identity, text=text):
                yield from self._begin()
                yield self._chunk({"audio": {"id": identity, "transcript": text}})
            case Audio(id=identity, data=data):
                yield from self._begin()
                yield self._chunk({"audio": {"id": identity, "data": base64.b64encode(data).decode()}})
            case Words(id=identity, words=words):
                yield from self._begin()
                yield self._chunk({"audio": {"id": identity, "words": list(self._timed(words))}})
            case Usage():
                self._usage = event if self._usage is None else _sum(self._usage, event)
            case Finish(reason=reason):
                self._reason = reason
            case Fallback(text=text):
                self._forget_actions()
                if text:
                    yield from self._begin()
                    yield self._chunk({"content": text})
            case Timing() | Failed():
                pass
            case _:
                assert_never(event)

    def end(self) -> Iterator[Chunk]:
        """Yield the action, the tool calls, the finish, and the usage if it was requested and is known."""
        yield from self._begin()
        if self._action is not None:
            if self._action.command:
                yield self._chunk({"content": self._action.command})
            else:
                self._hold_action(self._action)
        for call in self._calls:
            yield self._chunk({"tool_calls": [call]})
        last = self._chunk({}, finish_reason=self.finish_reason)
        yield last if self._citations is None else {**last, "citations": self._citations}
        if self._include_usage and self._usage is not None:
            yield {**self._head, "choices": [], "usage": usage_data(self._usage)}

    def timed(self, timings: Mapping[str, Any] | None) -> Iterator[Chunk]:
        """Yield a chunk with the times of the turn, if there are any."""
        if timings is not None:
            yield {**self._head, "choices": [], "timings": timings}

    def _forget_actions(self) -> None:
        """Drop the tool calls and the action: the turn has failed, or a newer turn replaced it."""
        self._calls, self._open, self._action, self._reason = [], {}, None, None

    @property
    def finish_reason(self) -> str:
        """Why the answer ended: one of the four values that clients know."""
        if self._action is not None and not self._open:
            return "stop" if self._action.command else self._action.finish or self._profile.finish
        usual = "tool_calls" if self._calls else "stop"
        if self._reason not in FINISH_REASONS or (self._reason == "tool_calls" and not self._calls):
            return usual
        return self._reason

    def _begin(self) -> Iterator[Chunk]:
        if not self.begun:
            self.begun = True
            yield self._chunk({"role": "assistant", "content": ""})

    def _chunk(self, delta: Chunk, *, finish_reason: str | None = None, logprobs: object = None) -> Chunk:
        choice: Chunk = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        if logprobs is not None:
            choice["logprobs"] = logprobs
        return {**self._head, "choices": [choice]}

    def _timed(self, words: Iterable[Word]) -> Iterator[Chunk]:
        """Yield the words in Agora's form, each with the `index` by which openai-python's `stream()` joins lists."""
        for text, start, end in words:
            yield {"index": self._words, "text": text, "start_ts": start, "end_ts": end, "duration": end - start}
            self._words += 1

    def _hold_action(self, action: Action) -> None:
        name, arguments = host_call(action, self._profile)
        self._hold(action.id, name)["function"]["arguments"] = arguments

    def _hold(self, identity: str, name: str) -> Chunk:
        call: Chunk = {
            "index": len(self._calls),
            "id": identity,
            "type": "function",
            "function": {"name": name, "arguments": ""},
        }
        self._calls.append(call)
        return call


def usage_data(usage: Usage) -> dict[str, Any]:
    """Return the usage in OpenAI's form: the three counts, and the other fields that the upstream sent."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        **usage.details,
        **({"estimated": True} if usage.estimated else {}),
    }


def _sum(first: Usage, second: Usage) -> Usage:
    return Usage(
        first.prompt_tokens + second.prompt_tokens,
        first.completion_tokens + second.completion_tokens,
        first.total_tokens + second.total_tokens,
        second.details,
        first.estimated or second.estimated,
    )
