"""Turns each `chat.completion.chunk` of an upstream into checked and normalised parts of the answer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dialgraph.environment import Environment
from dialgraph.models.errors import ModelError
from dialgraph.models.parts import Finish, Part, Relay, Say, Usage
from dialgraph.models.relay.failures import kind_of_error
from dialgraph.models.relay.thoughts_first import ThoughtsFirst
from dialgraph.models.relay.tool_calls import ToolCallError, ToolCalls
from dialgraph.models.usage import read_usage

MAX_ANSWER_CHARACTERS: Final = 10_000_000
"""The longest answer. It equals days of speech, and is more than a kernel buffers for a client that does not read. A
longer one is not an answer, and would fill the memory of the program that collects it."""
_AUDIO_TEXTS: Final = ("id", "data", "transcript")
_OWN: Final = frozenset({"role", "content", "tool_calls", "function_call"})
_NO_FINISH: Final = frozenset({"", "null", "none"})
_FINISHES: Final = {
    "end_turn": "stop", "eos": "stop", "eos_token": "stop", "stop_sequence": "stop", "completed": "stop",
    "max_tokens": "length", "max_output_tokens": "length", "model_length": "length",
    "safety": "content_filter", "sensitive": "content_filter", "recitation": "content_filter",
    "function_call": "tool_calls", "tool_call": "tool_calls", "tool_use": "tool_calls",
    "network_error": "error",
}  # fmt: skip
"""A server's finish reason → one of OpenAI's four, or `error`."""


class UnreadableError(ValueError):
    """An event contains nothing that can be read."""


class CompletionReader:
    """Reads the chunks of one answer and, at its end, checks that it is complete."""

    def __init__(
        self, name: str, declared: frozenset[str], environment: Environment, *, thinks_first: bool = False
    ) -> None:
        """`declared`: the names of the tools that the request offers."""
        self._name = name
        self._calls = ToolCalls(declared, environment)
        self._thoughts = ThoughtsFirst() if thinks_first else None
        self._usage: Usage | None = None
        self._said = 0
        """The number of characters so far."""
        self.progress = 0
        """Grows with all content: words, thoughts, calls, audio."""
        self.finished = False
        """Whether the server has sent a finish reason."""
        self._first = ""
        """The first piece of text."""
        self._finish: str | None = None
        self._error: object = None
        self._answered = False

    def read(self, chunk: object) -> Sequence[Part]:
        """Return the parts of one chunk, except calls, usage and finish, which `end` yields. Raise UnreadableError."""
        if not isinstance(chunk, dict):
            raise UnreadableError("a chunk is not a JSON object")
        if usage := chunk.get("usage"):
            self._count(usage)
        elif type(groq := chunk.get("x_groq")) is dict:
            self._count(groq.get("usage"))
        choices = chunk.get("choices")
        if not choices:
            return ()
        choice = choices[0] if isinstance(choices, list) else choices
        if not isinstance(choice, dict):
            raise UnreadableError("a choice is not a JSON object")
        if usage := choice.get("usage"):
            self._count(usage)  # Moonshot sends it here
        reason = choice.get("finish_reason")
        if isinstance(reason, str) and reason.lower() not in _NO_FINISH:
            self._finish, self.finished = _FINISHES.get(reason.lower(), reason.lower()), True
            self._error = choice.get("error")
        delta = choice.get("delta")
        if not delta and isinstance(choice.get("message"), dict):
            delta = choice["message"]
            if self.finished and self._repeats(delta.get("content")):
                delta = {key: value for key, value in delta.items() if key != "content"}
        if delta is None and isinstance(choice.get("text"), str):
            delta = {"content": choice["text"]}
        if type(delta) is dict and type(content := delta.get("content")) is str and len(delta) == 1:
            return self._say(content, choice.get("logprobs"))  # the hot path
        return () if delta is None else list(self._delta(delta, choice.get("logprobs")))

    def end(self, *, done: bool) -> Iterator[Part]:
        """Yield the end of the answer: its calls, usage and finish. `done`: the server sent `[DONE]` or a whole answer.

        Raise ModelError if the stream ended without a finish reason or without content: that is never a success.
        """
        if self._finish is None and not done:
            raise ModelError("incomplete", f"The model {self._name!r} stopped in the middle of its answer.")
        if self._finish == "error":
            raise ModelError(kind_of_error(self._error), f"The model {self._name!r} reported an error.")
        finish = self._finish or "stop"
        if self._thoughts is not None and (held := self._thoughts.rest()):
            if finish == "length" or self._calls:
                yield Relay({"reasoning_content": held})  # the thought did not end
            else:
                self._answered = True
                yield Say(held)
        try:
            calls = list(self._calls.whole(cut=finish == "length"))
        except ToolCallError as error:
            raise self._malformed(str(error)) from None
        if not self._answered and not calls and finish != "content_filter":
            raise ModelError("empty", f"The model {self._name!r} returned an empty answer.")
        yield from calls
        if self._usage is not None:
            yield self._usage
        # Some servers send "stop" after a tool call. A host that believes it never makes the call.
        yield Finish("tool_calls" if calls and finish == "stop" else finish)

    def _repeats(self, content: object) -> bool:
        """Return whether the content is the whole answer again: some servers repeat it at the end."""
        return isinstance(content, str) and len(content) >= self._said > 0 and content.startswith(self._first)

    def _count(self, usage: object) -> None:
        """Keep the last usage, unless it is all zeros and an earlier one is not."""
        found = read_usage(usage)
        if found is not None and (found.total_tokens or self._usage is None):
            self._usage = found

    def _delta(self, delta: object, logprobs: object) -> Iterator[Part]:
        if not isinstance(delta, dict):
            raise UnreadableError("a delta is not a JSON object")
        content = delta.get("content")
        if type(content) is str:
            yield from self._say(content, logprobs)
            readable = True
        else:
            readable = content is None
            for part in self._of_parts(content):
                readable = True
                yield part
        try:
            if calls := delta.get("tool_calls"):
                readable = self._calls.add(calls) or readable
            if legacy := delta.get("function_call"):
                readable = self._calls.add_legacy(legacy) or readable
        except ToolCallError as error:
            raise self._malformed(str(error)) from None
        rest = {key: value for key, value in delta.items() if key not in _OWN and value not in (None, "")}
        if not _is_audio(rest.get("audio")):
            del rest["audio"]
        if not isinstance(rest.get("refusal", ""), str):
            del rest["refusal"]
        self.progress += bool(rest or calls or legacy)
        if rest:
            self._answered = self._answered or "refusal" in rest or "audio" in rest
            yield Relay(rest)
        elif not readable:
            raise UnreadableError("the content of a delta is not text")

    def _say(self, text: str, logprobs: object = None) -> Sequence[Part]:
        if not text:
            return ()
        if not self._said:
            self._first = text
        self._said += len(text)
        self.progress += 1
        if self._said > MAX_ANSWER_CHARACTERS:
            raise self._malformed(f"it has more than {MAX_ANSWER_CHARACTERS} characters")
        thought = ""
        if self._thoughts is not None:
            thought, text = self._thoughts.push(text)
        parts: list[Part] = []
        if thought:
            parts.append(Relay({"reasoning_content": thought}))
        if text:
            self._answered = True
            parts.append(Say(text, logprobs if type(logprobs) is dict else None))
        return parts

    def _of_parts(self, content: object) -> Iterator[Part]:
        """Yield the words and thoughts of content that is a list of parts. Pictures and the like cannot be spoken."""
        for part in content if isinstance(content, list) else [content]:
            if isinstance(part, str):
                yield from self._say(part)
            elif isinstance(part, Mapping):
                if isinstance(text := part.get("text"), str):
                    yield from self._say(text)
                elif thought := _thought(part.get("thinking")):
                    self.progress += 1
                    yield Relay({"reasoning_content": thought})

    def _malformed(self, what: str) -> ModelError:
        return ModelError("malformed", f"The model {self._name!r} sent an invalid answer: {what}.")


def _thought(thinking: object) -> str:
    if isinstance(thinking, str):
        return thinking
    parts: Sequence[Any] = thinking if isinstance(thinking, list) else ()
    return "".join(part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))


def _is_audio(sound: object) -> bool:
    return sound is None or (
        isinstance(sound, dict)
        and all(value is None or isinstance(value, str) for value in map(sound.get, _AUDIO_TEXTS))
    )
