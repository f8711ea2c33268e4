"""Turns a conversation into a form that the provider accepts, even after hosts, interruptions and graphs changed it.

Strict providers answer an odd history with a 400, and then every later turn of the call fails too. By default messages
are put into the one form that all providers accept (exceptions: `dialgraph.models.history.dialect`):

- one system message, which is first
- then user and assistant messages in turn; the first is a user's, the last is a user's or a tool's
- each tool call followed immediately by its result
- nothing empty and no nulls
- ids and names in the characters and lengths that every provider accepts
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final

import orjson

from dialgraph.language.words import is_chinese
from dialgraph.models.history.dialect import Rule
from dialgraph.models.history.pairing import Message, joined, modern, paired
from dialgraph.models.history.text import text_of

NO_OUTPUT: Final = "(no output)"
_BEGINS: Final = {False: "(The call begins.)", True: "（通话开始）"}
_WAITS: Final = {False: "(The caller is waiting.)", True: "（来电者在等待）"}
_INTERRUPTED: Final = {False: "(interrupted)", True: "（被打断）"}
_INSTRUCTION: Final = {False: "(Instruction: {text})", True: "（指示：{text}）"}
_RULES: Final = ("system", "developer")
_SHORT_ID: Final = re.compile(r"[A-Za-z0-9]{9}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]", re.ASCII)
_TEXTS: Final = ("text", "input_text", "output_text", "refusal")
_TEXT_FIELDS: Final = {"type", "text", "content", "refusal", "annotations"}
_BASE: Final = b"abcdefghijklmnopqrstuvwxyz0123456789"
_LETTERS: Final = bytes(_BASE[byte % len(_BASE)] for byte in range(256))
_CONTINUES: Final = ("prefix", "partial")
"""Fields that ask the model to continue the last assistant message."""


def accepted(messages: Sequence[Message], dialect: Collection[Rule] = ()) -> list[Message]:
    """Return the messages in a form that the provider accepts. The given messages are not changed."""
    cleaned = [_cleaned(message, dialect) for message in modern(messages)]
    placed = _rules_first([message for message in cleaned if not _is_empty(message)], dialect)
    whole = list(_answered_by_somebody(joined(paired(placed))))
    talk = list(_named(_in_turn(whole, chinese=_is_chinese(whole))))
    if "one_call" in dialect:
        talk = list(_one_by_one(talk))
    return talk if "ids" in dialect else [_with_short_ids(message) for message in talk]


def _cleaned(message: Message, dialect: Collection[Rule]) -> Message:
    """Return the message without nulls and empty fields, with a role that every provider knows, and with its content
    as a string if all its parts are text.
    """
    role = message.get("role")
    kept = {key: value for key, value in message.items() if value not in (None, "", []) or key in ("role", "content")}
    if role == "developer" and "developer" not in dialect:
        kept["role"] = "system"
    if role != "tool" and "names" not in dialect:
        kept.pop("name", None)
    refusal = kept.pop("refusal", None)
    if role == "assistant" and not kept.get("content") and refusal:
        kept["content"] = refusal
    kept.pop("annotations", None)
    content = kept.get("content")
    kept["content"] = _content(content, text_only=role != "user")
    if role == "tool" and not text_of(kept["content"]).strip():
        kept["content"] = orjson.dumps(content).decode() if content and not text_of(content) else NO_OUTPUT
    if role != "assistant":
        kept.pop("audio", None)
    if role != "tool":
        kept.pop("tool_call_id", None)
    if isinstance(name := kept.get("name"), str):
        kept["name"] = _NOT_IN_NAMES.sub("_", name)[:64]
    return kept


def _content(content: object, *, text_only: bool) -> object:
    if not isinstance(content, list):
        return content if isinstance(content, str) else ""
    if text_only or all(map(_is_text, content)):
        return "\n".join(text for part in content if (text := text_of([part]).strip()))
    parts = [{"type": "text", "text": text_of([part]).strip()} if _is_text(part) else part for part in content]
    return [part for part in parts if not _is_text(part) or part["text"]]


def _is_text(part: object) -> bool:
    """Return whether a part contains only words, or nothing."""
    if isinstance(part, Mapping):
        return part.keys() <= ({"type", "text"} if part.get("type") not in _TEXTS else _TEXT_FIELDS)
    return isinstance(part, str)


def _is_empty(message: Message) -> bool:
    """Return whether a message contains no words and no tool call."""
    if message.get("role") == "assistant" and (message.get("tool_calls") or message.get("audio")):
        return False
    content = message.get("content")
    return not content or (isinstance(content, str) and not content.strip())


def _rules_first(messages: Sequence[Message], dialect: Collection[Rule]) -> list[Message]:
    """Return the messages with one system message, first. Later system messages, which few chat templates accept,
    become user messages in the same place.
    """
    leading = 0
    while leading < len(messages) and messages[leading].get("role") in _RULES:
        leading += 1
    head, rest = list(messages[:leading]), list(messages[leading:])
    if len(head) > 1 and len({one.get("role") for one in head}) == 1:
        head = [{**head[0], "content": "\n\n".join(text_of(one.get("content")).strip() for one in head)}]
    if "late_system" not in dialect:
        rest = [_as_instruction(message) if message.get("role") in _RULES else message for message in rest]
    return [_as_instruction(one) for one in head] + rest if "no_system" in dialect else head + rest


def _as_instruction(message: Message) -> Message:
    text = text_of(message.get("content")).strip()
    return {"role": "user", "content": _INSTRUCTION[is_chinese(text)].format(text=text)}


def _answered_by_somebody(messages: Iterator[Message]) -> Iterator[Message]:
    """Insert an interrupted assistant message between a tool's result and a user message."""
    before: Message = {}
    for message in messages:
        if before.get("role") == "tool" and message.get("role") == "user":
            yield {"role": "assistant", "content": _INTERRUPTED[is_chinese(text_of(message.get("content")))]}
        yield message
        before = message


def _in_turn(messages: Sequence[Message], *, chinese: bool) -> Iterator[Message]:
    """Make user and assistant messages take turns. The first is a user's, and the last one is not an assistant's."""
    begun = False
    before: dict[str, object] | None = None
    for message in messages:
        role = message.get("role")
        if message.get("content") is None:
            message = {**message, "content": ""}
        if role in _RULES:
            if before is not None:
                yield before
                before = None
            yield message
            continue
        if not begun and role != "user":
            yield {"role": "user", "content": _BEGINS[chinese]}
        begun = True
        if before is not None and before["role"] == role == "user":
            before["content"] = _both(before["content"], message.get("content"))
            continue
        if before is not None:
            yield before
        before = dict(message)
    if before is not None:
        yield before
        if before["role"] == "assistant" and not any(before.get(field) for field in _CONTINUES):
            yield {"role": "user", "content": _WAITS[chinese]}
    elif not begun:
        yield {"role": "user", "content": _BEGINS[chinese]}


def _named(messages: Iterator[Message]) -> Iterator[Message]:
    """Give calls names in the characters that every provider accepts, and give each result the name of its tool, which
    Google's endpoint requires.
    """
    names: dict[object, object] = {}
    for message in messages:
        if calls := [_with_plain_name(call) for call in _calls(message)]:
            names |= {
                call["id"]: call["function"]["name"] for call in calls if isinstance(call.get("function"), Mapping)
            }
            yield {**message, "tool_calls": calls}
        else:
            name = names.get(message.get("tool_call_id")) if message.get("role") == "tool" else None
            yield {**message, "name": name} if name else message


def _calls(message: Message) -> Sequence[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else ()


def _both(first: object, second: object) -> object:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: object) -> list[object]:
    return list(content) if isinstance(content, list) else [{"type": "text", "text": content}]


def _one_by_one(messages: Sequence[Message]) -> Iterator[Message]:
    """Split messages so that each has one call, followed by its result, as the templates of Llama 3 require."""
    results = {message["tool_call_id"]: message for message in messages if message.get("role") == "tool"}
    for message in messages:
        calls = message.get("tool_calls")
        if isinstance(calls, list) and len(calls) > 1:
            for number, call in enumerate(calls):
                yield {**message, "content": message["content"] if not number else "", "tool_calls": [call]}
                if call["id"] in results:
                    yield results.pop(call["id"])
        elif message.get("role") != "tool" or results.pop(message["tool_call_id"], None) is not None:
            yield message


def _with_short_ids(message: Message) -> Message:
    """Replace ids by nine letters and digits, as Mistral requires. Equal ids stay equal, so prompts stay cached."""
    if message.get("role") == "tool":
        return {**message, "tool_call_id": _short(str(message["tool_call_id"]))}
    calls = _calls(message)
    return {**message, "tool_calls": [{**call, "id": _short(call["id"])} for call in calls]} if calls else message


def _short(identity: str) -> str:
    if _SHORT_ID.fullmatch(identity):
        return identity
    return blake2b(identity.encode(), digest_size=9).digest().translate(_LETTERS).decode()


def _with_plain_name(call: Mapping[str, Any]) -> Mapping[str, Any]:
    function = call.get("function")
    if not isinstance(function, Mapping) or _NAME.fullmatch(function["name"]):
        return call
    return {**call, "function": {**function, "name": _NOT_IN_NAMES.sub("_", function["name"])[:64]}}


def _is_chinese(messages: Sequence[Message]) -> bool:
    return is_chinese(" ".join(text_of(message.get("content"))[:500] for message in messages[-4:]))
