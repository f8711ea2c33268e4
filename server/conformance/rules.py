"""The rules of the wire, each with the clients that fail if it is broken (measured with the real libraries)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule that a server keeps or breaks."""

    says: str
    breaks: str
    """Which clients fail if the rule is broken, and how."""


RULES: dict[str, Rule] = {
    "answers": Rule("A streaming request is answered with status 200.", "every client"),
    "whole-answer": Rule(
        "No connection breaks before its answer is complete.",
        "every client: the caller hears half a sentence, or nothing",
    ),
    "event-stream": Rule(
        "`stream: true` returns `text/event-stream`, regardless of the Accept header.",
        "7 of 12 clients receive an empty text; OpenAI's SDKs send `Accept: application/json`",
    ),
    "first-byte": Rule(
        "The first byte comes within 8 seconds.", "ElevenLabs gives up the turn after 8 s, LiveKit after 10 s"
    ),
    "framing": Rule(
        "Events consist only of `data:` lines and comments: no `id:`, `event:` or `retry:`, and no empty data.",
        "openai-python and openai-node raise on an event without JSON; LiveKit raises on `id:` lines with keep-alives",
    ),
    "json": Rule("Every event is one JSON object.", "every client raises"),
    "id": Rule("Every chunk has the same `id`, a string.", "LiveKit: without an id the turn fails after four tries"),
    "created": Rule("Every chunk has the same `created`, an integer.", "pydantic-ai, Volcengine"),
    "model": Rule("Every chunk has a `model`, a string.", "AI SDK's schema, Volcengine"),
    "object": Rule(
        "`object` is `chat.completion.chunk`.", "openai-python's `.stream()` raises, or loses the words of that chunk"
    ),
    "choices": Rule("Every chunk has `choices`, a list.", "openai-node, Vapi (\"not iterable\"), LiveKit, AI SDK"),
    "index": Rule("`choices[0].index` is 0.", "openai-agents loses the words; AI SDK's chat provider fails"),
    "delta": Rule("`choices[0].delta` is an object.", "TEN, openai-python's `.stream()`"),
    "role": Rule("The first delta has `role: assistant`.", "openai-node's `.stream()` raises"),
    "one-kind": Rule(
        "A delta has words or a tool call, not both.", "LiveKit's Node agents speak the tool call"
    ),
    "finish": Rule(
        "There is exactly one finish reason, one of the four known ones, in a delta without words or tool calls.",
        "openai-node's `.stream()` and AI SDK fail without one; Vocode loses words in the same delta",
    ),
    "done": Rule("`data: [DONE]` comes once, and nothing comes after it.", "AI SDK speaks words that come after it"),
    "error-key": Rule("No chunk has a key `error`, not even null.", "AI SDK's compatible provider fails"),
    "usage": Rule(
        "Usage comes only if requested, in the last chunk, with `choices: []` and three integers.",
        "Pipecat fails after the words on a partial usage; Bolna fails on empty choices without usage",
    ),
    "tool-call": Rule(
        "A tool call has an `index` without gaps, an `id`, `type: function`, a name, and arguments that are JSON.",
        "openai-python's `.stream()` (index), Pipecat and strict tools (arguments), LiveKit (id)",
    ),
    "tool-finish": Rule(
        "After tool calls the finish reason is `tool_calls`, and each call is sent once.", "Vapi, AI SDK, LiveKit"
    ),
    "whole": Rule(
        "`stream: false` returns one `chat.completion`.", "LangChain, LlamaIndex and the plain call of every SDK"
    ),
    "extras": Rule(
        "Fields of voice hosts, `developer` messages, lists of parts and null content are accepted.",
        "Agora, Alibaba, Vapi, ElevenLabs and Pipecat send them in every turn",
    ),
    "errors": Rule(
        "An invalid request gets a 4xx with `error.message`, `type`, `param` and `code`.",
        "openai-node shows FastAPI's `detail` as \"422 status code (no body)\"; clients repeat a 5xx up to twice",
    ),
    "unauthorized": Rule(
        "A wrong key is answered with 401.", "no client; but anybody who finds the URL can use it at your cost"
    ),
    "models": Rule(
        "`GET …/models` lists at least one model.", "LiveKit opens its connection with it; lists of models stay empty"
    ),
    "ids-differ": Rule("Two answers have different ids.", "hosts that store turns by id confuse them"),
    "leaving": Rule("A client that leaves during a stream does not disturb others.", "every client, at each barge-in"),
}  # fmt: skip

Verdict = Literal["kept", "broken", "not seen"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for one rule, and what was seen."""

    rule: str
    verdict: Verdict
    seen: str = ""
