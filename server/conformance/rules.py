"""The rules a server is held against, with the clients that each breach breaks (measured with the real libraries)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that can be right or wrong."""

    says: str
    breaks: str
    """Who fails on it, and how."""


RULES: dict[str, Rule] = {
    "answers": Rule("A streamed request is answered with status 200.", "everybody"),
    "whole-answer": Rule(
        "No connection breaks before its answer is whole.", "everybody: the caller hears half a sentence, or nothing"
    ),
    "event-stream": Rule(
        "`stream: true` gives `text/event-stream`, whatever the Accept header says.",
        "7 of 12 clients end with an empty text; OpenAI's SDKs send `Accept: application/json`",
    ),
    "first-byte": Rule(
        "The first byte comes within 8 seconds.", "ElevenLabs gives the turn up after 8 s, LiveKit after 10"
    ),
    "framing": Rule(
        "Events are `data:` lines and comments only: no `id:`, `event:` or `retry:`, no empty data.",
        "openai-python and openai-node raise on an event without JSON; LiveKit on `id:` lines with keep-alives",
    ),
    "json": Rule("Every event is one JSON object.", "everybody raises"),
    "id": Rule("Every chunk has the same `id`, a text.", "LiveKit: a missing id fails the turn after four tries"),
    "created": Rule("Every chunk has the same `created`, a whole number.", "pydantic-ai, Volcengine"),
    "model": Rule("Every chunk has a `model`, a text.", "AI SDK's schema, Volcengine"),
    "object": Rule(
        "`object` is `chat.completion.chunk`.", "openai-python's `.stream()` raises, or loses the words of that chunk"
    ),
    "choices": Rule("Every chunk has a list `choices`.", "openai-node, Vapi (\"not iterable\"), LiveKit, AI SDK"),
    "index": Rule("`choices[0].index` is 0.", "openai-agents loses the words; AI SDK's chat provider fails"),
    "delta": Rule("`choices[0].delta` is an object.", "TEN, openai-python's `.stream()`"),
    "role": Rule("The first delta says `role: assistant`.", "openai-node's `.stream()` raises"),
    "one-kind": Rule(
        "A delta holds words or a tool call, not both.", "LiveKit's Node agents speak what belongs to the tool"
    ),
    "finish": Rule(
        "There is exactly one finish reason, one of the four, in a delta of its own.",
        "openai-node's `.stream()`, AI SDK: a stream without one is an error; Vocode drops the words in it",
    ),
    "done": Rule("`data: [DONE]` comes once, and nothing behind it.", "AI SDK speaks what comes behind it"),
    "error-key": Rule("No chunk has a key `error`, not even null.", "AI SDK's compatible provider fails"),
    "usage": Rule(
        "Usage comes only when asked for, last, with `choices: []` and three whole numbers.",
        "Pipecat fails after the words on a partial usage; Bolna on empty choices without usage",
    ),
    "tool-call": Rule(
        "A tool call has a dense `index`, an `id`, `type: function`, a name, and arguments that are JSON.",
        "openai-python's `.stream()` (index), Pipecat and strict tools (arguments), LiveKit (id)",
    ),
    "tool-finish": Rule(
        "Behind tool calls the finish reason is `tool_calls`, and each is made once.", "Vapi, AI SDK, LiveKit"
    ),
    "whole": Rule("`stream: false` gives one `chat.completion`.", "LangChain, LlamaIndex and every SDK's plain call"),
    "extras": Rule(
        "Fields of voice hosts, `developer` messages, lists of parts and null contents are accepted.",
        "Agora, Alibaba, Vapi, ElevenLabs and Pipecat send them in every turn",
    ),
    "errors": Rule(
        "A request that makes no sense gets a 4xx with `error.message`, `type`, `param` and `code`.",
        "FastAPI's `detail` shows as \"422 status code (no body)\" in openai-node; a 5xx is tried up to three times",
    ),
    "unauthorized": Rule(
        "A wrong key is answered with 401.", "nobody: whoever finds the address talks on your bill"
    ),
    "models": Rule("`GET …/models` lists something.", "LiveKit warms its connection with it; pickers stay empty"),
    "ids-differ": Rule("Two answers have two ids.", "hosts that keep turns by id mix them up"),
    "leaving": Rule("A client that leaves in mid-stream harms no other.", "every barge-in"),
}  # fmt: skip

Verdict = Literal["kept", "broken", "not seen"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of one rule."""

    rule: str
    verdict: Verdict
    seen: str = ""
