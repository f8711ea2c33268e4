"""What each provider refuses of a request, as strictly as is known: every request of the whole suite is held to it.

Sources, read on 2026-11-28, are in docs/models.md, whose table is this one.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import orjson

from dialgraph.models.request_fields import DOCUMENTED

Body = Mapping[str, Any]
Rule = Callable[[Body], bool]
"""Whether a request keeps it."""

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
    """A system message is the first one, and the only one."""
    return "system" not in _roles(body)[1:]


def no_developer(body: Body) -> bool:
    """The role `developer` is `system`."""
    return set(_roles(body)) <= {"system", "user", "assistant", "tool"}


def a_user_first(body: Body) -> bool:
    """Behind the system message the user begins; there is a user."""
    talk = [role for role in _roles(body) if role != "system"]
    return bool(talk) and talk[0] == "user"


def in_turn(body: Body) -> bool:
    """No two messages of the user, or of the assistant, follow each other."""
    roles = _roles(body)
    return not any(a == b and a in ("user", "assistant") for a, b in pairwise(roles))


def no_user_behind_a_tool(body: Body) -> bool:
    """The assistant speaks between a tool's result and the user."""
    roles = _roles(body)
    return ("tool", "user") not in pairwise(roles)


def the_last_word_is_not_the_assistants(body: Body) -> bool:
    """A user or a tool comes last, unless the assistant's message is to be gone on with."""
    last = _messages(body)[-1]
    return last["role"] != "assistant" or bool(last.get("prefix") or last.get("partial"))


def calls_with_their_results(body: Body) -> bool:
    """Behind a message with calls stand its results, all and no others."""
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
    """No message is empty or blank, but one that makes calls; no null, and no empty list."""
    for message in _messages(body):
        if any(value is None or value == [] for value in message.values()) or "content" not in message:
            return False
        content = message["content"]
        blank = not content.strip() if isinstance(content, str) else not content
        if blank and not (message.get("tool_calls") or message.get("audio")):
            return False
    return not any(value is None or value == [] for value in body.values())


def short_ids(body: Body) -> bool:
    """Ids of calls are nine letters and digits."""
    ids = [call["id"] for call in _calls(body)] + [m["tool_call_id"] for m in _messages(body) if m["role"] == "tool"]
    return all(re.fullmatch(r"[A-Za-z0-9]{9}", identity) for identity in ids)


def plain_names(body: Body) -> bool:
    """Names of functions have 1 to 64 letters, digits, `_` and `-`."""
    return all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"]) for call in _calls(body))


def arguments_are_json(body: Body) -> bool:
    """Arguments are the text of a JSON value."""
    try:
        for call in _calls(body):
            orjson.loads(call["function"]["arguments"])
    except orjson.JSONDecodeError:
        return False
    return True


def results_are_named(body: Body) -> bool:
    """A tool's result says the tool's name."""
    return all(message.get("name") for message in _messages(body) if message["role"] == "tool")


def text_where_text_is_wanted(body: Body) -> bool:
    """Content is a text, but where there are pictures, sound, or marks for a cache."""
    for message in _messages(body):
        content = message["content"]
        if isinstance(content, list) and (
            message["role"] in ("system", "tool") or all(set(part) <= {"type", "text"} for part in content)
        ):
            return False
    return True


def known_fields(body: Body) -> bool:
    """No field that OpenAI does not document, in the request or in a message."""
    known = DOCUMENTED | {"messages", "model", "stream", "stream_options"}
    return set(body) <= known and all(set(one) <= FIELDS.get(one["role"], set()) for one in _messages(body))


def metadata_only_where_it_is_stored(body: Body) -> bool:
    """`metadata` goes with `store`."""
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
    """What which providers would refuse of this request."""
    found: dict[str, list[str]] = {}
    for provider, rules in REFUSES.items():
        for rule in rules:
            if not rule(body):
                found.setdefault(rule.__name__, []).append(provider)
    return [f"{rule}: {', '.join(providers)}" for rule, providers in found.items()]
