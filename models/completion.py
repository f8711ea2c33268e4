"""One `chat.completion.chunk` of an upstream → the parts of the answer it holds, checked and normalised."""

from collections.abc import Iterator, Mapping
from typing import cast
from uuid import uuid4

import orjson

from models.answer import Finish, Part, Relay, Say, ToolCallPart, Usage
from models.errors import ModelError

MAX_TOOL_CALLS = 128
MAX_ANSWER_CHARACTERS = 10_000_000
"""Days of speech, and more than waits in a kernel for a client that does not read: what is longer is no answer, and
would fill the memory of who gathers it."""
MAX_ARGUMENT_CHARACTERS = 1_048_576
_AUDIO_TEXTS = ("id", "data", "transcript")
_COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")


class CompletionReader:
    """Reads the chunks of one answer and knows, at its end, whether it was whole."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: dict[int | str, list[str]] = {}
        self._ids: set[str] = set()
        self._given_ids: dict[int | str, object] = {}
        self._renamed: dict[int | str, str] = {}
        self._latest: int | str = 0
        self._size = 0
        self._said = 0
        self._finish: str | None = None
        self._answered = False

    def read(self, chunk: object) -> Iterator[Part]:
        """The parts of one chunk, without its finish, which `end` gives: usage may follow it."""
        if not isinstance(chunk, dict):
            raise self._malformed("a chunk is not a JSON object")
        choices = chunk.get("choices")
        if choices and isinstance(choices, list):
            choice = choices[0]
            if not isinstance(choice, dict):
                raise self._malformed("a choice is not a JSON object")
            delta = choice.get("delta")
            if delta is not None:
                yield from self._delta(delta, choice.get("logprobs"))
            reason = choice.get("finish_reason")
            if isinstance(reason, str) and reason:
                self._finish = reason
        usage = chunk.get("usage")
        if usage:
            counted = read_usage(usage)
            if counted is not None:
                yield counted

    def end(self) -> Iterator[ToolCallPart | Finish]:
        """What closes the answer. A stream that just ends, or that says nothing, is a fault and never a success."""
        if self._finish is None:
            raise ModelError("incomplete", f"The model {self._name!r} stopped in the middle of its answer.")
        if self._finish == "error":
            raise ModelError("failed", f"The model {self._name!r} reported an error.")
        if not self._answered:
            raise ModelError("empty", f"The model {self._name!r} finished without a word.")
        yield from self._close_tool_calls()
        # Some servers say "stop" behind a tool call; a host that believed it would never make the call.
        yield Finish("tool_calls" if self._calls and self._finish == "stop" else self._finish)

    def _delta(self, delta: object, logprobs: object) -> Iterator[Part]:
        if not isinstance(delta, dict):
            raise self._malformed("a delta is not a JSON object")
        content = delta.get("content")
        if isinstance(content, str):
            if content:
                self._answered = True
                self._said += len(content)
                if self._said > MAX_ANSWER_CHARACTERS:
                    raise self._malformed("it does not end")
                yield Say(content, logprobs if isinstance(logprobs, Mapping) else None)
        elif content is not None:
            raise self._malformed("the content of a delta is not text")
        if len(delta) == 1 and content is not None:
            return
        calls = delta.get("tool_calls")
        if calls:
            if not isinstance(calls, list):
                raise self._malformed("tool_calls is not a list")
            for position, call in enumerate(calls):
                yield self._tool_call(call, position)
        rest = {
            key: value
            for key, value in delta.items()
            if key not in ("role", "content", "tool_calls") and value not in (None, "")
        }
        sound = rest.get("audio")
        if sound is not None and not (isinstance(sound, dict) and all(map(_is_text, map(sound.get, _AUDIO_TEXTS)))):
            raise self._malformed("the audio of a delta is no audio")
        if rest:
            self._answered = self._answered or "refusal" in rest or "audio" in rest
            yield Relay(rest)

    def _tool_call(self, call: object, position: int) -> ToolCallPart:
        """A part with a dense index: upstreams leave gaps, start anywhere or leave the index out."""
        if not isinstance(call, dict):
            raise self._malformed("a tool call is not a JSON object")
        given = call.get("index")
        if given is None:
            given = call.get("id") or (self._latest if self._calls else position)
        if not isinstance(given, int | str) or (isinstance(given, int) and given < 0):
            raise self._malformed("a tool call's index is no count")
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        name, arguments = function.get("name"), function.get("arguments") or ""
        if not isinstance(arguments, str):
            raise self._malformed("the arguments of a tool call are not text")
        self._size += len(arguments)
        if self._size > MAX_ARGUMENT_CHARACTERS:
            raise self._malformed("the arguments of tool calls are too long")
        # Some servers number every call 0; a new id with a name is a new call all the same.
        if given in self._calls and name and call.get("id") and call["id"] != self._given_ids.get(given):
            self._renamed[given] = f"{given}:{call['id']}"
        given = self._latest = self._renamed.get(given, given)
        if given in self._calls:
            index = list(self._calls).index(given)
            self._calls[given].append(arguments)
            return ToolCallPart(index, arguments=arguments)
        if not (isinstance(name, str) and name):
            raise self._malformed("a tool call begins without a name")
        if len(self._calls) == MAX_TOOL_CALLS:
            raise self._malformed(f"more than {MAX_TOOL_CALLS} tool calls")
        self._calls[given] = [arguments]
        self._answered = True
        identity = call.get("id")
        if not (isinstance(identity, str) and identity) or identity in self._ids:
            identity = f"call_{uuid4().hex[:24]}"
        self._ids.add(identity)
        self._given_ids[given] = call.get("id")
        return ToolCallPart(len(self._calls) - 1, identity, name, arguments)

    def _close_tool_calls(self) -> Iterator[ToolCallPart]:
        """Arguments are a JSON text, `{}` if there are none; only an answer cut for its length may leave them open."""
        for index, pieces in enumerate(self._calls.values()):
            arguments = "".join(pieces)
            if not arguments.strip():
                yield ToolCallPart(index, arguments="{}")
            elif self._finish != "length":
                try:
                    orjson.loads(arguments)
                except orjson.JSONDecodeError:
                    raise self._malformed("the arguments of a tool call are no JSON") from None

    def _malformed(self, what: str) -> ModelError:
        return ModelError("malformed", f"The model {self._name!r} sent what is no answer: {what}.")


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def read_usage(usage: object) -> Usage | None:
    """Usage with its three counts, or None: half a usage makes strict clients fail after the words."""
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(key) for key in _COUNTS]
    if not all(isinstance(count, int) for count in counts):
        return None
    prompt, completion, total = cast(list[int], counts)
    details = {key: value for key, value in usage.items() if key not in _COUNTS and value is not None}
    return Usage(prompt, completion, total, details)
