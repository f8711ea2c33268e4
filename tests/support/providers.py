"""The requests that each provider refuses, as strictly as is known. Every request of the whole suite is checked.

docs/models.md has the same table, and its sources, read on 2026-11-28.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import orjson

from dialgraph.models.request_fields import DOCUMENTED

Body = Mapping[str, Any]
Rule = Callable[[Body], bool]
"""Return whether a request follows the rule."""

FIELDS = {
    "system": {"role", "content"},
    "user": {"role", "content"},
    "assistant": {"role", "content", "tool_calls", "audio", "prefix", "partial", "reasoning_content", "reasoning",
                  "reasoning_details", "cache_control"},
    "tool": {"role", "content", "tool_call_id", "name"},
}  # fmt: skip


def _messages(body: Body) -> list[Mapping[str, Any]]:
    return list(body["messages"])


def _roles(body: Body) -> list[str]:
    return [message["role"] for message in _messages(body)]


def _calls(body: Body) -> list[Mapping[str, Any]]:
    return [call for message in _messages(body) for call in message.get("tool_calls", ())]


def one_system_message_first(body: Body) -> bool:
    """Return whether the only system message is the first message, if there is one."""
    return "system" not in _roles(body)[1:]


def no_developer(body: Body) -> bool:
    """Return whether no message has the role `developer`."""
    return set(_roles(body)) <= {"system", "user", "assistant", "tool"}


def a_user_first(body: Body) -> bool:
    """Return whether the first message that is not a system message is a user's."""
    talk = [role for role in _roles(body) if role != "system"]
    return bool(talk) and talk[0] == "user"


def in_turn(body: Body) -> bool:
    """Return whether no two user messages, and no two assistant messages, are neighbours."""
    roles = _roles(body)
    return not any(a == b and a in ("user", "assistant") for a, b in pairwise(roles))


def no_user_behind_a_tool(body: Body) -> bool:
    """Return whether no user message directly follows a tool's result."""
    roles = _roles(body)
    return ("tool", "user") not in pairwise(roles)


def the_last_word_is_not_the_assistants(body: Body) -> bool:
    """Return whether the last message is not the assistant's, except one that the model must continue."""
    last = _messages(body)[-1]
    return last["role"] != "assistant" or bool(last.get("prefix") or last.get("partial"))


def calls_with_their_results(body: Body) -> bool:
    """Return whether each message with tool calls is followed by all their results, and no other results."""
    waiting: list[str] = []
    for message in _messages(body):
        if message["role"] == "tool":
            if message["tool_call_id"] not in waiting:
                return False
            waiting.remove(message["tool_call_id"])
        elif waiting:
            return False
        waiting += [call["id"] for call in message.get("tool_calls", ())]
    return not waiting


def nothing_empty(body: Body) -> bool:
    """Return whether nothing is null or an empty list, and no message is blank unless it has tool calls or audio."""
    for message in _messages(body):
        if any(value is None or value == [] for value in message.values()) or "content" not in message:
            return False
        content = message["content"]
        blank = not content.strip() if isinstance(content, str) else not content
        if blank and not (message.get("tool_calls") or message.get("audio")):
            return False
    return not any(value is None or value == [] for value in body.values())


def short_ids(body: Body) -> bool:
    """Return whether all ids of tool calls have nine letters and digits."""
    ids = [call["id"] for call in _calls(body)] + [m["tool_call_id"] for m in _messages(body) if m["role"] == "tool"]
    return all(re.fullmatch(r"[A-Za-z0-9]{9}", identity) for identity in ids)


def plain_names(body: Body) -> bool:
    """Return whether all function names have 1 to 64 letters, digits, `_` and `-`."""
    return all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"]) for call in _calls(body))


def arguments_are_json(body: Body) -> bool:
    """Return whether all arguments of tool calls are valid JSON."""
    try:
        for call in _calls(body):
            orjson.loads(call["function"]["arguments"])
    except orjson.JSONDecodeError:
        return False
    return True


def results_are_named(body: Body) -> bool:
    """Return whether each tool's result has the name of the tool."""
    return all(message.get("name") for message in _messages(body) if message["role"] == "tool")


def text_where_text_is_wanted(body: Body) -> bool:
    """Return whether content is a string, except where it has pictures, sound or cache marks."""
    for message in _messages(body):
        content = message["content"]
        if isinstance(content, list) and (
            message["role"] in ("system", "tool") or all(set(part) <= {"type", "text"} for part in content)
        ):
            return False
    return True


def known_fields(body: Body) -> bool:
    """Return whether the request and its messages have only known fields."""
    known = DOCUMENTED | {"messages", "model", "stream", "stream_options"}
    return set(body) <= known and all(set(one) <= FIELDS.get(one["role"], set()) for one in _messages(body))


def metadata_only_where_it_is_stored(body: Body) -> bool:
    """Return whether `metadata` is sent only with `store: true`."""
    return "metadata" not in body or body.get("store") is True


EVERYBODY: tuple[Rule, ...] = (calls_with_their_results, arguments_are_json, plain_names, known_fields)
REFUSES: dict[str, tuple[Rule, ...]] = {
    "OpenAI": (*EVERYBODY, nothing_empty, metadata_only_where_it_is_stored),
    "Azure": (*EVERYBODY, nothing_empty, metadata_only_where_it_is_stored),
    "Gemini": (
        *EVERYBODY, nothing_empty, one_system_message_first, a_user_first, the_last_word_is_not_the_assistants,
        results_are_named, metadata_only_where_it_is_stored,
    ),
    "Mistral": (
        *EVERYBODY, nothing_empty, one_system_message_first, no_developer, no_user_behind_a_tool,
        the_last_word_is_not_the_assistants, short_ids,
    ),
    "Anthropic": (*EVERYBODY, nothing_empty, one_system_message_first, a_user_first,
                  the_last_word_is_not_the_assistants),
    "DeepSeek": (
        *EVERYBODY, nothing_empty, no_developer, in_turn, a_user_first, the_last_word_is_not_the_assistants,
        text_where_text_is_wanted,
    ),
    "Qwen": (*EVERYBODY, nothing_empty, one_system_message_first, no_developer, a_user_first),
    "vLLM": (
        *EVERYBODY, nothing_empty, one_system_message_first, no_developer, a_user_first, in_turn,
        no_user_behind_a_tool, text_where_text_is_wanted,
    ),
    "llama.cpp": (
        *EVERYBODY, nothing_empty, one_system_message_first, no_developer, a_user_first, in_turn,
        the_last_word_is_not_the_assistants, text_where_text_is_wanted,
    ),
}  # fmt: skip


def complaints(body: Body) -> list[str]:
    """Return the rules that this request breaks, each with the providers that would refuse it."""
    found: dict[str, list[str]] = {}
    for provider, rules in REFUSES.items():
        for rule in rules:
            if not rule(body):
                found.setdefault(rule.__name__, []).append(provider)
    return [f"{rule}: {', '.join(providers)}" for rule, providers in found.items()]
