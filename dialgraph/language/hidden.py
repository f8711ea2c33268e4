"""Removes what a model does not mean to say from streamed text: its thoughts, and tool calls written as text. Pure.

Every family of models has its own marks for them, and servers that do not know a family pass the marks on as words. A
mark may arrive in pieces, so text that may become a mark is held back. Ordinary text passes immediately.
"""

import re
from typing import Final

_THOUGHTS: Final = (
    "think", "thinking", "thought", "thoughts", "reasoning", "scratchpad", "reflection", "analysis", "seed:think",
)  # fmt: skip
_TAGS: Final = (
    *_THOUGHTS,
    "tool_call", "tool_calls", "tool_use", "function_call", "function_calls", "invoke", "minimax:tool_call",
    "tool_response", "start_function_call",
)  # fmt: skip
_PAIRS: Final[dict[str, str]] = {
    "◁think▷": r"◁/think▷",  # Kimi
    "<｜tool▁calls▁begin｜>": r"<｜tool▁calls▁end｜>",  # DeepSeek
    "<｜tool▁call▁begin｜>": r"<｜tool▁call▁end｜>",
    "<|tool_calls_section_begin|>": r"<\|tool_calls_section_end\|>",  # Kimi K2
    "<|tool_call_begin|>": r"<\|tool_call_end\|>",
    "<|tool_call|>": r"<\|/tool_call\|>",  # Phi
    "<|python_tag|>": r"<\|(?:eom_id|eot_id)\|>",  # Llama
    "<|begin_of_thought|>": r"<\|end_of_thought\|>",
    "<|start_thinking|>": r"<\|end_thinking\|>",  # Cohere
    "<|start_action|>": r"<\|end_action\|>",
    "<|action_start|>": r"<\|action_end\|>",  # InternLM
    "<｜dsml｜function_calls>": r"</｜dsml｜function_calls>",  # DeepSeek 3.2
    "[think]": r"\[/think\]",  # Magistral
    "[tool_calls]": r"</s>",  # Mistral
}
"""The beginning of hidden text, in lower case → its end."""
_CHANNEL: Final = "<|channel|>"
_START: Final = "<|start|>"
_STARTS: Final = (*(f"<{tag}" for tag in _TAGS), *(f"</{tag}" for tag in _TAGS), "<function=", "</function", "◁/think▷",
                  *_PAIRS, _CHANNEL, _START)  # fmt: skip
_OPEN: Final = re.compile(
    rf"(?<!`)<(?P<tag>{'|'.join(_TAGS)})(?:\s+[\w:.-]+\s*=[^<>]{{0,200}})?\s*>|(?P<function><function=[^<>]{{0,200}}>)"
    rf"|(?P<pair>{'|'.join(map(re.escape, _PAIRS))})|(?P<channel>{re.escape(_CHANNEL)})|(?P<start>{re.escape(_START)})"
    rf"|(?P<alone></(?:{'|'.join(_TAGS)}|function)\s*>|◁/think▷)",
    re.IGNORECASE,
)
_END_OF_THOUGHT: Final = re.compile(rf"</(?:{'|'.join(_THOUGHTS)})\s*>", re.IGNORECASE)
"""One pattern for all: some models end a thought with another name than they began it."""
_END_OF_CHANNEL: Final = re.compile(r"<\|(?:end|return|call)\|>|(?=<\|(?:start|channel)\|>)")
_END_OF_START: Final = re.compile(r"<\|message\|>|(?=<\|channel\|>)")
_MESSAGE: Final = "<|message|>"
_MARK: Final = re.compile(r"[<◁\[]")
_LONGEST_MARK: Final = 220


class Hidden:
    """Filters one answer on its way to a voice."""

    def __init__(self) -> None:
        self._held = ""
        self._before = ""
        """The last character that was said. A tag after a backtick is quoted, so it is not removed."""
        self._until: re.Pattern[str] | None = None
        """The pattern that ends the text that is being removed."""
        self._in_header = False
        """Whether the name of a channel is being read."""

    def push(self, text: str) -> str:
        """Return what may be said now, of this text and of the text held back before."""
        if not self._held and self._until is None and not self._in_header and not _MARK.search(text):
            self._before = text[-1:]
            return text
        return self._read(self._held + text, final=False)

    def flush(self) -> str:
        """Return the rest, at the end of the answer. Hidden text that never ended is not returned."""
        return self._read(self._held, final=True)

    def _read(self, text: str, *, final: bool) -> str:
        said: list[str] = []
        while text:
            if self._in_header:
                rest = self._header(text, final=final)
            elif self._until is not None:
                rest = self._skip(text, self._until)
            else:
                rest = self._speak(text, said, final=final)
            if rest is None:
                break
            text = rest
        else:
            self._held = ""
        spoken = "".join(said)
        self._before = spoken[-1:] or self._before
        return spoken

    def _speak(self, text: str, said: list[str], *, final: bool) -> str | None:
        """Add the text before the next mark to `said`. Return the text after the mark; None if more is needed."""
        found = _OPEN.search(text)
        if found is None:
            keep = 0 if final else _held_back(text)
            said.append(text[: len(text) - keep])
            self._held = text[len(text) - keep :]
            return None
        said.append(text[: found.start()])
        if found["tag"] and found.start() == 0 and not any(said) and self._before == "`":
            said.append("<")
            return text[1:]
        if found["tag"]:
            self._until = _END_OF_THOUGHT
            if found["tag"].lower() not in _THOUGHTS:
                self._until = re.compile(rf"</{re.escape(found['tag'])}\s*>|<end_function_call>", re.IGNORECASE)
        elif found["function"]:
            self._until = re.compile(r"</function\s*>", re.IGNORECASE)
        elif found["pair"]:
            self._until = re.compile(_PAIRS[found["pair"].lower()], re.IGNORECASE)
        elif found["start"]:
            self._until = _END_OF_START
        self._in_header = bool(found["channel"])
        return text[found.end() :]

    def _skip(self, text: str, until: re.Pattern[str]) -> str | None:
        found = until.search(text)
        if found is None:
            self._held = text[-_LONGEST_MARK:]
            return None
        self._until = None
        return text[found.end() :]

    def _header(self, text: str, *, final: bool) -> str | None:
        """Read the name of a channel. Only the channel `final` is for the caller."""
        name, message, rest = text.partition(_MESSAGE)
        if not message and len(text) < _LONGEST_MARK:
            self._held = "" if final else text
            return None
        self._in_header = False
        if not name.strip().lower().startswith("final"):
            self._until = _END_OF_CHANNEL
        return rest if message else text[_LONGEST_MARK:]


def _held_back(text: str) -> int:
    """Return how many characters at the end may become a mark."""
    for found in _MARK.finditer(text, max(0, len(text) - _LONGEST_MARK)):
        tail = text[found.start() :].lower()
        if any(start.startswith(tail) or (tail.startswith(start) and _still_open(tail, start)) for start in _STARTS):
            return len(tail)
    return 0


def _still_open(tail: str, start: str) -> bool:
    """Return whether a tag's attributes are incomplete: `<tool_call id="1`."""
    rest = tail[len(start) :]
    return start[-1] not in ">▷]" and ">" not in rest and (start.endswith("=") or not rest or rest[0].isspace())
